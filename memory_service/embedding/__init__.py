"""Makers of vectors behind one interface, chosen by the settings. None is loaded before it is first needed."""
