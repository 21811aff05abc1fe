"""What is asked about a run that exists, or about a model that is not to be trained."""
