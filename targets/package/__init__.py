"""What a device's developer needs of a model, as a folder of files."""
