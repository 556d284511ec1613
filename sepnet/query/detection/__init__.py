"""Stage 2: when the sound of the example occurs in the mixture, and with what confidence."""
