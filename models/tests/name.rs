//! Names from pictures, against a server that sees.

mod faults;
mod vlm;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};

use clearfilm_models::name::plan::Plan;
use serde_json::{Value, json};
use vlm::pictures::{CELLS, drawn, replies};
use vlm::{Act, Server};

/// Everything on other patients' pictures; small numbers, because there are 260 pictures.
fn held_out(server: &Server, more: &str) -> String {
    let place = drawn();
    format!(
        "sae = {:?}\nlevel = 'embedding'\nvectors = {:?}\npictures = {:?}\nsize = 60\n\
         rates = [0.01, 0.6]\nprocedure = 'held-out'\n{more}\n\
         [bootstrap]\ncount = 300\n\
         [held-out]\nshown = 9\nquantiles = 3\neach = 2\ngroup = 6\n\
         [namer]\nurl = {:?}\nmodel = 'namer'\n\
         [judge]\nurl = {:?}\nmodel = 'judge'\nlogprobs = true\n",
        place.sae(),
        place.vectors(),
        place.root(),
        server.url,
        server.url
    )
}

/// The same, several requests at a time.
fn several(server: &Server, more: &str) -> String {
    held_out(server, more) + "limits = { concurrency = 8 }\n"
}

fn medsae(server: &Server) -> String {
    let place = drawn();
    format!(
        "sae = {:?}\nlevel = 'embedding'\nvectors = {:?}\npictures = {:?}\n\
         procedure = 'medsae'\n[bootstrap]\ncount = 300\n\
         [medsae]\nshown = 10\njudged = 10\n[namer]\nurl = {:?}\nmodel = 'one'\n",
        place.sae(),
        place.vectors(),
        place.root(),
        server.url
    )
}

fn command(plan: &str, out: &Path) -> Command {
    fs::create_dir_all(out).expect("made");
    let file = out.join("name.toml");
    fs::write(&file, plan).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_clearfilm-models"));
    command.arg("name").arg("--plan").arg(&file).arg("--out").arg(out);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

fn run(plan: &str, out: &Path) -> Output {
    command(plan, out).output().expect("ran")
}

#[track_caller]
fn named(plan: &str, out: &Path) -> Value {
    let output = run(plan, out);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    serde_json::from_slice(&fs::read(out.join("names.json")).expect("written")).expect("JSON")
}

fn number(of: &Value) -> f64 {
    of.as_f64().unwrap_or_else(|| unreachable!("expected a number, found {of}"))
}

#[test]
fn right_names_win_on_other_patients_pictures() {
    let (server, out) = (Server::right(), tempfile::tempdir().expect("a folder"));
    let found = named(&several(&server, ""), out.path());
    server.check();
    let result = &found["result"]["held-out"];
    let features = result["features"].as_array().expect("features");
    assert_eq!(features.len(), CELLS.len());
    for (feature, place) in features.iter().zip(CELLS) {
        let name = feature["name"]["concept"].as_str().expect("a name");
        assert!(name.ends_with(place), "{name} for {place}");
        assert_eq!(feature["own"]["judged"], 12);
        assert_eq!(feature["picked"], true);
    }
    for lift in [&result["lift"], &result["lift_auroc"]] {
        assert!(number(&lift["low"]) > 0.2, "{lift}");
    }
    assert!(number(&result["balanced_accuracy"]["value"]) > 0.99);
    assert_eq!(found["warnings"], json!([]));
    assert_eq!(found["judge"]["models"], json!(["drawn-4b"]));
    assert_eq!(found["judge"]["system_fingerprints"], json!(["fp_test"]));
    server.seen(|seen| assert!(seen.sizes.iter().all(|size| *size == [60, 60]), "asked for 60"));
    // Namer and judge saw nobody's pictures both.
    let shown = |judge: bool| {
        server.seen(|seen| {
            let own = |body: &&Value| (body["model"] == "judge") == judge;
            let parts = seen.bodies.iter().filter(own);
            let parts = parts.flat_map(|body| body["messages"][1]["content"].as_array().cloned());
            let urls =
                parts.flatten().filter_map(|p| p["image_url"]["url"].as_str().map(str::to_owned));
            urls.collect::<std::collections::BTreeSet<String>>()
        })
    };
    assert!(shown(true).is_disjoint(&shown(false)));
    // All replies are kept: nothing is asked again, and the bytes are the same.
    let before = fs::read(out.path().join("names.json")).expect("read");
    let asked = server.seen(|seen| seen.count);
    named(&several(&server, ""), out.path());
    assert_eq!(fs::read(out.path().join("names.json")).expect("read"), before);
    assert_eq!(server.seen(|seen| seen.count), asked);
}

#[test]
fn names_of_other_features_have_no_lift() {
    let (server, out) = (Server::right(), tempfile::tempdir().expect("a folder"));
    let found = named(&several(&server, "shuffle_names = true"), out.path());
    server.check();
    let lift = &found["result"]["held-out"]["lift"];
    assert!(number(&lift["low"]) < 0.0 && number(&lift["high"]) > 0.0, "{lift}");
    assert!(found["warnings"][0].as_str().expect("a warning").contains("control"));
}

#[test]
fn medsaes_arms_stand_apart_and_failures_are_no_zeros() {
    // Every fifth request to the judge brings a list of the wrong length.
    let server = Server::start(|number, body| {
        let judge = body["response_format"]["json_schema"]["name"] == "marks";
        if judge && number % 5 == 0 { Act::Words("{\"present\":[1]}".into()) } else { Act::Answer }
    });
    let out = tempfile::tempdir().expect("a folder");
    let found = named(&medsae(&server), out.path());
    server.check();
    let arms = &found["result"]["medsae"];
    let of = |arm: &str, figure: &str| number(&arms[arm]["means"][figure]["value"]);
    assert!(of("sae", "accuracy") > 0.99, "{}", arms["sae"]["means"]);
    assert!(of("sae", "accuracy_with_zeros") < 0.95);
    assert!(number(&arms["shuffled"]["means"]["accuracy"]["high"]) < 0.8);
    assert!(arms["raw"]["features"].as_array().expect("dimensions").len() >= CELLS.len());
    let failed = number(&arms["sae"]["judging_failures"]["shape"]);
    let features = arms["sae"]["features"].as_array().expect("features");
    let counted: f64 = features.iter().map(|f| number(&f["figures"]["failed"])).sum();
    assert!(failed > 0.0 && (failed - counted).abs() < 0.5, "{failed} and {counted}");
    assert!(found["warnings"][0].as_str().expect("a warning").contains("itself"));
}

#[test]
fn a_key_comes_from_the_environment_and_is_kept_nowhere() {
    let (server, out) = (Server::right(), tempfile::tempdir().expect("a folder"));
    let plan = medsae(&server) + "key_env = 'NAMER_KEY'\n[namer.limits]\nrequests_max = 2\n";
    let without = run(&plan, out.path());
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(!without.status.success() && said.contains("NAMER_KEY"), "{said}");
    let output = command(&plan, out.path()).env("NAMER_KEY", "secret-1").output().expect("ran");
    assert!(!output.status.success(), "the limit is 2");
    assert_eq!(server.seen(|seen| seen.keys.clone()), ["Bearer secret-1", "Bearer secret-1"]);
    server.seen(|seen| {
        assert!(seen.bodies.iter().all(|body| !body.to_string().contains("secret-1")));
    });
}

#[test]
fn a_run_that_reached_its_limit_goes_on_without_a_repeated_call() {
    let (server, out) = (Server::right(), tempfile::tempdir().expect("a folder"));
    let limited = |count: u32| {
        held_out(&server, "") + &format!("limits = {{ requests_max = {count}, concurrency = 4 }}\n")
    };
    let stopped = run(&limited(50), out.path());
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(!stopped.status.success() && said.contains("requests_max"), "{said}");
    assert!(!out.path().join("names.json").exists());
    named(&limited(100_000), out.path());
    server.check();
    let asked = server.seen(|seen| (seen.count, seen.answered.len()));
    assert_eq!(asked, (asked.0, asked.0));
    assert_eq!(replies(out.path()).len(), asked.0);
}

#[test]
fn a_killed_run_goes_on_without_a_repeated_call() {
    let (server, out) = (Server::right(), tempfile::tempdir().expect("a folder"));
    // The 40th request gets no answer: whoever asked is killed before.
    server.becomes(|number, _| if number == 40 { Act::Kill } else { Act::Answer });
    let plan = held_out(&server, "");
    let mut victim: Child = command(&plan, out.path()).spawn().expect("started");
    server.seen(|seen| seen.victim = i32::try_from(victim.id()).ok());
    assert!(!victim.wait().expect("ended").success());
    assert_eq!(replies(out.path()).len(), 39);
    named(&plan, out.path());
    server.check();
    let [asked, answered] = server.seen(|seen| [seen.count, seen.answered.len()]);
    assert_eq!(asked, answered + 1, "only the request that got no answer was sent again");
}

#[test]
fn a_plan_that_does_not_fit_says_what_was_expected() {
    let (server, out) = (Server::right(), tempfile::tempdir().expect("a folder"));
    let refused = |plan: &str| {
        let output = run(plan, out.path());
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let plan = held_out(&server, "");
    let said = refused(&plan.replace("model = 'namer'", "model = 'namer'\nkey = 'x'"));
    assert!(said.contains("unknown field `key`"), "{said}");
    let said = refused(&held_out(&server, "splits = ['dev']"));
    assert!(said.contains("expected images of the splits [\"dev\"], found none"), "{said}");
    let said = refused(&plan.replace("[0.01, 0.6]", "[0.0, 0.01]"));
    assert!(said.contains("expected some that fire"), "{said}");
    assert_eq!(server.seen(|seen| seen.count), 0);
}

#[test]
fn a_vocabulary_names_each_direction_by_its_nearest_word() {
    let place = drawn();
    let out = tempfile::tempdir().expect("a folder");
    let d = CELLS.len() + 2;
    // A word for each place, its direction a little turned, and one that is none of them.
    let values = (0..CELLS.len() + 1).flat_map(|word| {
        (0..d).map(move |at| {
            if at == word {
                2.0_f32
            } else if at == word + 1 {
                0.5
            } else {
                0.1
            }
        })
    });
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let shape = vec![CELLS.len() + 1, d];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes);
    let file = safetensors::serialize([("text", view.expect("a tensor"))], None).expect("a file");
    fs::write(out.path().join("words.safetensors"), file).expect("written");
    let words = CELLS.join("\n") + "\nnone of them\n";
    fs::write(out.path().join("words.txt"), words).expect("written");
    let plan = format!(
        "sae = {:?}\nlevel = 'embedding'\nvectors = {:?}\nprocedure = 'vocabulary'\n\
         [vocabulary]\nwords = 'words.txt'\nembeddings = 'words.safetensors'\n",
        place.sae(),
        place.vectors()
    );
    assert!(toml::from_str::<Plan>(&plan).is_ok());
    let found = named(&plan, out.path());
    let matches = found["result"]["vocabulary"].as_array().expect("matches");
    for (found, place) in matches.iter().zip(CELLS) {
        assert_eq!(found["word"], place);
        assert!(number(&found["margin"]) > 0.3, "{found}");
    }
    assert_eq!(matches.len(), CELLS.len());
}
