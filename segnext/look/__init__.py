"""Looking into a trained network: Grad-CAM, how far it sees, what Ham's bases become."""
