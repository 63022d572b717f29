"""The flagship codec's networks; `config` is the one description that training and export share."""
