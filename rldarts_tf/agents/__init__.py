"""Agents and their training programs: a module each, built from the frameworks' parts."""
