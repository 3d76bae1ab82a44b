"""What a file's inputs and outputs are to an application: types, pixels, parts with scales of their own."""
