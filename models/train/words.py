"""The demo bundle's words: names of latents, sentences, and what is never assessed."""

NOT_ASSESSED = [
    "consolidation and pneumonia", "pulmonary edema", "atelectasis", "interstitial disease", "mediastinal contours",
    "hilar enlargement", "bones and soft tissues", "position of tubes and lines", "lateral views", "children",
    "change since earlier images",
]
PHRASES = {
    "effusion": "fluid at the lung base", "cardiomegaly": "a wide heart", "pneumothorax": "air beside the lung",
    "nodule": "round opacities", "device": "devices",
}
TECHNIQUE = {
    "PA": "Frontal chest radiograph, posteroanterior projection.",
    "AP": "Frontal chest radiograph, anteroposterior projection; the heart appears larger in this projection.",
    "LL": "Left lateral chest radiograph; lateral views are not assessed.",
    "RL": "Right lateral chest radiograph; lateral views are not assessed.",
    "unknown": "Chest radiograph; the projection is not stated in the header.",
}
SENTENCES = {
    "pleural_effusion": (
        "Features associated with pleural effusion are present.",
        "Features associated with pleural effusion are equivocal; please compare with the costophrenic angles.",
        "No features associated with pleural effusion above the threshold.",
    ),
    "cardiomegaly": (
        "Features associated with an enlarged cardiac silhouette are present.",
        "Features associated with an enlarged cardiac silhouette are equivocal; please measure the cardiothoracic ratio.",
        "No features associated with an enlarged cardiac silhouette above the threshold.",
    ),
    "pneumothorax": (
        "Features associated with pneumothorax are present; prompt review of the pleural line is suggested.",
        "Features associated with pneumothorax are equivocal; please review the pleural line.",
        "No features associated with pneumothorax above the threshold.",
    ),
    "pulmonary_nodule": (
        "Features associated with one or more round pulmonary opacities are present.",
        "Features associated with round pulmonary opacities are equivocal; please review the lung fields.",
        "No features associated with round pulmonary opacities above the threshold.",
    ),
    "device": (
        "Features associated with an implanted or indwelling device are present; its position is not assessed.",
        "Features associated with an implanted or indwelling device are equivocal.",
        "No features associated with an implanted or indwelling device above the threshold.",
    ),
}
LIMITATIONS = [
    "Drafted by a demonstration model that was validated on drawn phantoms only and is not for clinical use.",
    "The absence of a statement is not evidence of the absence of disease.",
]
NAMED_BY = (
    "automatic: the drawn variant with which a latent's activation goes most strongly over training phantoms "
    "(AUROC of at least 0.6, family-wise p <= 0.01 over all latents and variants by 1,000 shuffles of phantom seeds), "
    "and the zone where it is active on average; a latent of a finding without such an association is named by its zone "
    "alone. label_auroc is measured on calibration phantoms, which took no part in naming. No clinician has looked at a name."
)


def report() -> dict:
    """`report.json`."""
    keys = ("present", "uncertain", "absent")
    return {
        "format": 1, "language": "en", "technique": TECHNIQUE,
        "findings": {name: dict(zip(keys, texts)) for name, texts in SENTENCES.items()}, "limitations": LIMITATIONS,
    }


def feature(latent: int, where: str, variant: str | None, area: float | None, firing: float) -> dict:
    """One entry of `features.json`."""
    if variant is None:
        name, description = f"token pattern, {where}", f"Token pattern that is most active in the {where}."
        return {"latent": latent, "name": name, "description": description, "label_source": "auto", "firing_rate": round(firing, 4)}
    return {
        "latent": latent, "name": f"associated with {PHRASES[variant]}, {where}",
        "description": f"Feature associated with the drawn phantom variant {variant}; most active in the {where}.",
        "label_source": "auto", "label_auroc": round(area, 4), "firing_rate": round(firing, 4),
    }
