"""What is computed of a trained model: diagnostics of its flow and its layers, metrics of samples."""
