"""Sets of features beside a latent space, and whether they are at work."""
