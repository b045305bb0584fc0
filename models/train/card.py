"""The model card, written from the figures of the run and never by hand."""


def text(f: dict) -> str:
    """`card.md`."""
    return "\n".join([HEAD, made(f), encoder(f), autoencoder(f), table(f), likeness(f), golden(f), TAIL])


HEAD = """# Model card: demo bundle, version 1

This bundle is a demonstration. It is **not MedCLIP**, it shares no weight with it, and it is **not for clinical use**.
It exists so that the software can be run, tested and looked at without a hospital's model.
Its findings were validated on phantoms only: pictures drawn in code that resemble radiographs at arm's length and model no disease.
On radiographs of patients nothing is known about what its findings mean, and they are hidden unless the configuration asks for them.
"""


def made(f: dict) -> str:
    """What it was trained on."""
    n, s = f["images"], f["student"]
    return f"""## What it was made from

| images | used for | licence and attribution |
| --- | --- | --- |
| {n['nih-train']} + {n['nih-dev']} (training, development) of NIH ChestX-ray14 | encoder, SAE, out-of-distribution model | unrestricted use with attribution: NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC; Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM, ChestX-ray8, IEEE CVPR 2017, 3462-3471 |
| {n['hannover-train']} + {n['hannover-dev']} (training, development) of the Hannover COVID-19 Image Repository | the same | CC BY 3.0: Winther HB, Laser H, Gerbel S, et al., Hannover Medical School, doi 10.6084/m9.figshare.12275009; changed: scaled |
| {n['phantom-train']} + {n['phantom-calibration']} + {n['phantom-test']} phantoms (training, calibration, test seeds; PA and AP) | encoder, SAE, findings | drawn by this project |
| {n['kermany-pediatric']} of Kermany et al., children of 1 to 5 years | out-of-distribution check only | CC BY 4.0: Kermany D, Zhang K, Goldbaum M, doi 10.17632/rscbjbr9sj.2 |

Splits are by patient. No finding label of any patient was used; age was, to leave people under 18 out of the out-of-distribution model. Phantoms bring the drawn variant as their label.
Teachers: two ImageNet networks, MobileNet v1 and v2 as 8-bit TFLite (google-coral/test_data, Apache-2.0). Neither their weights nor their features are in the bundle.
No real pixel is in the bundle: the golden images are phantoms.
The student was trained from scratch for {s['seconds']:.0f} s ({s['steps']} steps of 64 views) on two CPU cores, one seed.
"""


def encoder(f: dict) -> str:
    """Size and what int8 costs."""
    rows = "\n".join(
        f"| {name} | {v['cosine']:.4f} | {v['cosine_min']:.4f} | {v['centred']:.4f} | {v['centred_p5']:.4f} | {v['centred_min']:.4f} |"
        for name, v in f["int8"].items() if isinstance(v, dict)
    )
    return f"""## Encoder

A residual network of 3x3 convolutions, 0.98 million weights, 7x7 tokens of 256 values; the head projects their mean to 512.
Weights are int8 with one scale a channel, activations fp32; {f['int8']['bytes']:,} bytes (fp32 {f['int8']['fp32_bytes']:,}).
Cosine of the embedding to the fp32 reference on images that took no part in training, by ONNX Runtime; `stripped` with the dequantise nodes folded, as tract runs it:

| file, images | mean | worst | centred mean | centred 5th percentile | centred worst |
| --- | --- | --- | --- | --- | --- |
{rows}
"""


def autoencoder(f: dict) -> str:
    """Figures of the SAE."""
    s = f["sae"]
    rows = "\n".join(
        f"| {name} | {s[k]['fvu']:.3f} | {s[k]['fvu_pca']:.3f} | {s[k]['l0']:.1f} | {s[k]['silent']} |"
        for name, k in (("development radiographs", "real"), ("test phantoms", "phantoms"))
    )
    return f"""## Sparse autoencoder

256 latents over tokens, TopK 16 in training, one threshold ({s['threshold']:.4f}) as shipped; trained on {s['tokens']:,} tokens of un-augmented training images, one seed.
Latents that never fire on the training tokens: {s['dead']}.

| images | FVU | FVU of PCA with 16 components | latents active per token | silent latents |
| --- | --- | --- | --- | --- |
{rows}

{f['named']['features']} latents have a name, {f['named']['associated']} of them by an association with a drawn variant; `named_by` in `features.json` says how. No clinician has looked at a name.
"""


def table(f: dict) -> str:
    """Findings on phantoms."""
    rows = "\n".join(
        f"| {name} | {v['latents']} | {v['auroc']:.3f} [{v['low']:.3f}, {v['high']:.3f}] | {v['sensitivity']:.2f} | {v['specificity']:.2f} | {v['normal']:.0%} | {v['present_real']:.0%} |"
        for name, v in f["findings"].items()
    )
    s, e = f["shuffled"], f["engines"]
    differ = ", ".join(f"{name} {share:.1%}" for name, share in e["differ"].items())
    return f"""## Findings, on {f['images']['phantom-test']} test phantoms

| finding | latents | AUROC [95 %, by seed] | sensitivity | specificity | called present on normal phantoms | called present on development radiographs |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

A phantom shows one variant at a time, each equally often, and probabilities are calibrated to that: they mean nothing at another prevalence.
The last column is not accuracy: it is a warning that what was fitted on phantoms does not carry over to radiographs.
The rule for thresholds was changed twice after test figures had been seen (best F1, then 95 % specificity, then the same on normal phantoms), so sensitivity and specificity are optimistic; the AUROC does not depend on it.
The encoder learnt the variants from training phantoms of the same generator, so these figures say how it reads that generator, not more.
Between the file as it is and stripped, probabilities of test phantoms differ by {e['max']:.1e} at most; another decision follows for {differ}.
The nodule finding is weak.
Findings follow from features: with the SAE's rows shuffled, some probability moves by more than 0.02 on at least {s['real']:.1%} of development radiographs and {s['phantoms']:.1%} of test phantoms (worst of 20 shuffles); the slope of the calibration was chosen with this in view, on the same radiographs.
"""


def likeness(f: dict) -> str:
    """Out-of-distribution figures."""
    o = f["ood"]
    rows = "\n".join(f"| {k} | {o['median'][k]:.2f} | {v:.1%} |" for k, v in o["out"].items())
    return f"""## Out of distribution

Fitted on training embeddings of adults and phantoms ({o['components']} components).
Thresholds (out {o['threshold']}, borderline {o['borderline']}) are the larger of the 99th and 95th percentiles of development radiographs of adults and of calibration phantoms; nothing was tuned to the strange images.
`dicom-other` are hips and lower legs ({f['images']['dicom-other']} of 8 files; the others were refused when decoded); where they are not out, this score does not protect against them, and the gate on the header must.
Small children are out only in part.

| images | median score | out |
| --- | --- | --- |
{rows}
"""


def golden(f: dict) -> str:
    """Self-test."""
    w, g = f["golden_worst"], f["golden"]
    return f"""## Self-test

Golden outputs come from the fp32 reference. Worst over both engines: cosine {w['cosine']:.5f}, centred {w['centred']:.5f}, code {w['code']:.5f}; asked for: {g['cosine']}, {g['centred']}, {g['code']}.
"""


TAIL = """## What was not measured

- Whether any finding means anything on radiographs of patients: no such finding was fitted or tested, and none is shipped as validated on radiographs.
- Stability over seeds, other capacities or longer training; fairness by age, sex or device maker; other hospitals.
- Whether a feature's name would hold for a radiologist.
- Speed and agreement on any engine other than ONNX Runtime and tract on a CPU.
"""
