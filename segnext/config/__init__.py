"""Configurations as frozen values, and their ids: `Model`, `Data`, `Train` and `Run`; `Cost` and `Speed`.

This room imports no torch, so that declaring, planning and reporting start at once. Each field records who chose its
default (`fields.Choice`); `choices` lists the choices that the code makes outside of fields.
"""

from segnext.config.architecture import CHOICES as CHOICES
from segnext.config.architecture import DECODER_STAGES as DECODER_STAGES
from segnext.config.architecture import ENCODERS as ENCODERS
from segnext.config.architecture import SIZES as SIZES
from segnext.config.architecture import Model as Model
from segnext.config.architecture import Size as Size
from segnext.config.dataset import ClassificationData as ClassificationData
from segnext.config.dataset import Data as Data
from segnext.config.execution import COMPILERS as COMPILERS
from segnext.config.execution import Execution as Execution
from segnext.config.execution import compiler as compiler
from segnext.config.fields import PRECISIONS as PRECISIONS
from segnext.config.identity import canonical as canonical
from segnext.config.identity import difference as difference
from segnext.config.identity import digest as digest
from segnext.config.identity import whole_digest as whole_digest
from segnext.config.measured import DEVICES as DEVICES
from segnext.config.measured import TASKS as TASKS
from segnext.config.measured import Cost as Cost
from segnext.config.measured import Platform as Platform
from segnext.config.measured import Speed as Speed
from segnext.config.recipe import ClassificationTrain as ClassificationTrain
from segnext.config.recipe import Train as Train
from segnext.config.run import Evaluation as Evaluation
from segnext.config.run import Run as Run
from segnext.config.run import Weights as Weights
from segnext.config.run import resolved_run as resolved_run
