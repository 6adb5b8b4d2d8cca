"""Looking into a trained network: Grad-CAM, its reach, and the evolution of Ham's bases."""
