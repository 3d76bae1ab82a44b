"""Float .tflite files as sources."""
