"""What an initial value problem may hold: fields, given tensors, integrals, noise, events, breaks."""
