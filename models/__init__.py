"""The torch side of layercast: network definitions, training and export. Nothing here ships to users but `zoo/`."""
