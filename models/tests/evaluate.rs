//! What the evaluation finds where it is known what there is to find, and where there is nothing.

mod planted;

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use clearfilm::bundle::Sae;
use clearfilm_models::evaluate::evaluation::{Evaluation, Loaded, evaluate};
use clearfilm_models::evaluate::plan::Plan;
use clearfilm_models::evaluate::report;
use clearfilm_models::export;
use planted::{SEEN, VIEW, drawn};

fn plan(file: &Path, strata: &[&str]) -> Plan {
    let text = format!(
        "title = 'planted'\n[data]\nstrata = {strata:?}\nmetadata = ['position']\n\
         [permutations]\ncount = 400\npositives_min = 5\nfirings_min = 20\n\
         [bootstrap]\ncount = 100\n\
         [[arm]]\nname = 'planted'\nembeddings = '.'\nsae = {file:?}\nseeds = [{file:?}]\n"
    );
    toml::from_str(&text).expect("a plan")
}

fn evaluated(loaded: &Loaded, sae: &Sae, strata: &[&str]) -> Evaluation {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sae.safetensors");
    fs::write(&file, export::file(sae).expect("a file")).expect("written");
    let load = |_: &Path| Ok::<_, Infallible>(loaded.clone());
    evaluate(&plan(&file, strata), load, |_| ()).expect("evaluated")
}

/// Pairs of feature and label beyond chance.
fn beyond(evaluation: &Evaluation) -> Vec<(usize, String)> {
    let found = evaluation.arms[0].found.iter().filter(|found| found.chance.p_family < 0.05);
    found.map(|found| (found.feature, found.label.clone())).collect()
}

#[test]
fn the_feature_that_a_label_follows_is_found_and_holds_on_other_patients() {
    let (loaded, sae) = drawn();
    let evaluation = evaluated(&loaded, &sae, &["position"]);
    let arm = &evaluation.arms[0];
    let found = beyond(&evaluation);
    assert_eq!(found[0], (SEEN, "seen".to_owned()));
    // 40 directions in 32 dimensions are not at right angles: neighbours see a little of it too.
    assert!(found.iter().all(|(_, label)| label == "seen"), "{found:?}");
    let test = arm.found[0].test_auroc.expect("on test images");
    assert!(test.low > 0.7 && test.high < 1.0, "{test:?}");
    let own = arm.readouts.iter().find(|r| r.label == "seen" && r.size == 1).expect("a readout");
    assert_eq!(own.features, [SEEN]);
    // Against acquisition the feature wins; on a coin nobody does.
    let better = |label: &str| {
        let is = |d: &&clearfilm_models::evaluate::readout::Difference| {
            d.label == label && d.versus == "acquisition" && d.size == 1
        };
        arm.differences.iter().find(is).expect("a difference").difference
    };
    assert!(better("seen").low > 0.0);
    assert!(better("bedside").high < 0.0);
    assert!(better("coin").low < 0.0 && better("coin").high > 0.0);
    assert!((arm.stability.as_ref().expect("one seed").stable - 1.0).abs() < 1e-9);
}

#[test]
fn what_goes_with_the_stratum_alone_is_found_only_where_strata_are_not_kept() {
    let (loaded, sae) = drawn();
    let by = |strata: &[&str]| beyond(&evaluated(&loaded, &sae, strata));
    let bedside = (VIEW, "bedside".to_owned());
    assert!(by(&[]).contains(&bedside), "the confounder is there");
    assert!(!by(&["position"]).contains(&bedside));
}

#[test]
fn with_labels_shuffled_between_patients_nothing_is_found() {
    let (loaded, sae) = drawn();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sae.safetensors");
    fs::write(&file, export::file(&sae).expect("a file")).expect("written");
    let mut plan = plan(&file, &["position"]);
    plan.data.shuffle = Some(12);
    let load = |_: &Path| Ok::<_, Infallible>(loaded.clone());
    let evaluation = evaluate(&plan, load, |_| ()).expect("evaluated");
    assert!(report::page(&evaluation).contains("shuffled between patients"));
    assert_eq!(beyond(&evaluation), []);
    for readout in evaluation.arms[0].readouts.iter().filter(|r| r.label == "seen") {
        let off = (readout.auroc.value - 0.5).abs();
        assert!(off < 0.1, "{} features: {:?}", readout.size, readout.auroc);
    }
}

#[test]
fn the_same_plan_gives_the_same_bytes_with_any_number_of_threads() {
    let (loaded, sae) = drawn();
    let made = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let mut evaluation = pool.install(|| evaluated(&loaded, &sae, &["position"]));
        // Where the dictionary lay is another place each time.
        evaluation.plan.arm.clear();
        (serde_json::to_string(&evaluation).expect("json"), report::page(&evaluation))
    };
    let (json, page) = made(1);
    assert!(made(3) == (json, page.clone()), "one thread and three differ");
    assert!(page.contains("<svg") && !page.contains("http://") && !page.contains("https://"));
}
