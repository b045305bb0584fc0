//! Which latents get a name from labels, where it is known what there is to find.

mod planted;

use clearfilm_models::associate::{Associations, Naming, associate};
use clearfilm_models::codes::Codes;
use clearfilm_models::evaluate::bootstrap::Bootstrap;
use clearfilm_models::evaluate::images::Images;
use clearfilm_models::evaluate::permute::Permutations;
use clearfilm_models::evaluate::plan::Data;
use planted::{SEEN, VIEW, drawn};

/// Labels by which latents are named, within strata of the view or without.
fn found(shuffle: Option<u64>, strata: &[&str]) -> Associations {
    let (loaded, sae) = drawn();
    let codes = Codes::of(&sae, &loaded.embeddings);
    let data = Data {
        strata: strata.iter().map(|name| (*name).to_owned()).collect(),
        metadata: Vec::new(),
        shuffle,
        ..Data::default()
    };
    let images =
        Images::of(&loaded.columns, loaded.embeddings, loaded.d, &data).expect("planted images");
    let permutations = Permutations { count: 199, ..Permutations::default() };
    let how = Naming { auroc_min: 0.55, permutations, ..Naming::default() };
    associate(&images, &codes, &how, &Bootstrap { count: 200, ..Bootstrap::default() })
}

#[test]
fn a_latent_is_named_by_the_label_that_follows_it_and_keeps_its_name_on_other_patients() {
    let found = found(None, &["position"]);
    // Directions that are planted in fewer dimensions than there are of them lie near each other, so
    // that a neighbour goes with the label too; none as far.
    assert!(found.found.iter().all(|a| a.label == "seen"), "{:?}", found.found);
    let most = found.kept().max_by(|a, b| a.lift.value.total_cmp(&b.lift.value));
    let seen = most.expect("a name");
    assert_eq!(seen.latent, SEEN);
    assert!(seen.auroc.value > 0.75 && seen.lift.low > 0.2, "{seen:?}");
    let [naming, judging] = found.images;
    assert_eq!(naming + judging, 900);
}

#[test]
fn what_goes_with_the_view_alone_is_named_only_where_the_view_may_change_places() {
    let all = found(None, &[]);
    let of = |latent| all.found.iter().find(|a| a.latent == latent).map(|a| a.label.as_str());
    assert_eq!((of(SEEN), of(VIEW)), (Some("seen"), Some("bedside")));
}

#[test]
fn with_labels_of_other_patients_nothing_keeps_a_name() {
    for seed in 1..4 {
        let found = found(Some(seed), &["position"]);
        assert_eq!(found.kept().count(), 0, "seed {seed}: {:?}", found.found);
    }
}
