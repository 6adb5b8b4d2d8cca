"""The earlier name of `segnext.released_weights`, kept because scripts import it."""

from segnext.released_weights import load_encoder as load_encoder
from segnext.released_weights import load_file as load_file
from segnext.released_weights import load_initial as load_initial
from segnext.released_weights import load_released as load_released
from segnext.released_weights import released_name as released_name
from segnext.released_weights import save_released as save_released
from segnext.released_weights import to_released as to_released
