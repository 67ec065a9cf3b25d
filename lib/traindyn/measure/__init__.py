"""What is read off a network: tangent kernels, spectra, feature matrices, elasticity, teacher alignment."""
