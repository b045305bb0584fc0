"""CPU seconds that scikit-learn takes for the AUROC of one feature and one label on 224,000 images.

`pip install numpy==2.4.6 scikit-learn==1.9.1`, then `python models/peers/metrics.py`. All pairs of
`models/benches/metrics.rs` are 16,384 x 14 such calls.
"""

import time

import numpy as np
from sklearn.metrics import roc_auc_score

IMAGES, FIRINGS, CALLS = 224_000, 437, 15

random = np.random.default_rng(0)
values = np.zeros(IMAGES)
values[random.choice(IMAGES, FIRINGS, replace=False)] = random.random(FIRINGS) + 0.1
label = random.random(IMAGES) < 0.1
seconds = []
for _ in range(CALLS):
    before = time.process_time()
    roc_auc_score(label, values)
    seconds.append(time.process_time() - before)
each = float(np.median(seconds))
print(f"{1000 * each:.1f} CPU ms a call; {each * 16_384 * 14 / 3600:.2f} CPU hours for 16,384 x 14")
