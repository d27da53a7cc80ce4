"""`terrazzo init`: from a folder as it is to a recipe that trains, each line with its reason.

A folder is looked at by the detectors in `layout`, its classes are read off its masks, the batch
is measured with the model itself, and what was decided is written.
"""

from terrazzo.workflows.init.proposal import RECIPE as RECIPE
from terrazzo.workflows.init.proposal import Proposal as Proposal
from terrazzo.workflows.init.proposal import Wishes as Wishes
from terrazzo.workflows.init.proposal import init as init
