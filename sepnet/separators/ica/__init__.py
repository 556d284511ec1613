"""Independent component analysis and its convolutive kin, for several microphones."""
