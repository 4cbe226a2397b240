"""Commands for many images, with Ray Data.

Ray Data asks the autoscaler for machines by how busy its operators are, and names no labels: with
`--node-labels ray.io/market-type=on-demand` it would buy spot GPUs that no labeller may use. Our workers ask for their
machines themselves, labels included, so Ray Data asks for none: no use of the cluster is enough for it. It reads these
numbers once, when it is imported, which is after this module.
"""

import os

for _resource in ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY"):
    os.environ[f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{_resource}_UTIL_THRESHOLD"] = "1e9"
