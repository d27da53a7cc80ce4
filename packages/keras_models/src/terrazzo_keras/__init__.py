"""The Keras backend of Terrazzo. Importing this package imports no framework."""
