"""Bundled machines and scenarios, as package data: ``configs/machines``, ``configs/scenarios``."""
