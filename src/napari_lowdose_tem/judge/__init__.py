"""How good an output is: metrics, evaluation, repeats, residuals, contact sheet."""
