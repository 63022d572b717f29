"""Networks and tables that ship with layercast; made by `models/export`."""
