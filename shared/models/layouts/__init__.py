"""Layouts other than diffusers' folders: single files, pickles, the hub's cache."""
