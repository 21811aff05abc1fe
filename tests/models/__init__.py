"""Models: closed forms, likelihoods, gradients in every mode."""
