"""Recipes that train what some methods need, on a CPU in minutes, resumable."""
