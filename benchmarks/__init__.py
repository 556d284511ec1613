"""Measurements of speed, memory and quality that no installation of sepnet needs: see README.md here."""
