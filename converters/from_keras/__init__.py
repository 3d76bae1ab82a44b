"""Keras files and SavedModels as sources, in TensorFlow's own environment."""
