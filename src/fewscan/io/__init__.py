"""Scans, tables and files in and out."""
