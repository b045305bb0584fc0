//! Drawn pictures with bright marks in known places, their embeddings, and the dictionary whose
//! latents are those marks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clearfilm::bundle::{Fit, InputSpec, Level, Matrix, Sae, Weights};
use clearfilm::encode::Engine;
use clearfilm::id::Digest;
use clearfilm_models::embed::{
    DIGESTS, Done, Dtype, FORMAT, Folder, IMAGES, INTENSITY, Plan, VIEWS, Views, finish, write_plan,
};
use clearfilm_models::export;
use clearfilm_models::layout::Layout;
use clearfilm_models::start::{Stream, numbers};
use clearfilm_models::table::Record;
use image::{GrayImage, Luma};
use rand::RngExt as _;
use safetensors::Dtype as Stored;
use safetensors::tensor::TensorView;

/// Places of marks: a disc, a bar and a ring in each row.
pub(crate) const CELLS: [&str; 6] =
    ["upper left", "upper middle", "upper right", "lower left", "lower middle", "lower right"];

/// Findings of written reports.
pub(crate) const FINDINGS: [&str; 6] =
    ["cardiomegaly", "scoliosis", "granuloma", "atelectasis", "emphysema", "hiatal hernia"];

/// Pictures, and the side of each.
pub(crate) const COUNT: usize = 260;
const SIDE: u32 = 72;
/// Side of a cell.
const CELL: u32 = 24;
/// Share of the pictures with each mark.
const SHARE: f64 = 0.3;

/// Where everything lies.
pub(crate) struct Drawn {
    folder: tempfile::TempDir,
}

/// The same pictures for every test of a program.
pub(crate) fn drawn() -> &'static Drawn {
    static DRAWN: OnceLock<Drawn> = OnceLock::new();
    DRAWN.get_or_init(Drawn::new)
}

/// Whether a cell of a picture has a mark: it is brighter than most of the picture.
pub(crate) fn bright(picture: &GrayImage, cell: usize) -> bool {
    let scale = picture.width() / 3;
    let [left, top] = corner(cell).map(|at| at / CELL * scale);
    let pixels = (0..scale * scale).map(|at| [left + at % scale, top + at / scale]);
    let sum: u32 = pixels.map(|[x, y]| u32::from(picture.get_pixel(x, y).0[0])).sum();
    sum / (scale * scale) > 70
}

fn corner(cell: usize) -> [u32; 2] {
    let cell = u32::try_from(cell).expect("six cells");
    [cell % 3 * CELL, cell / 3 * 2 * CELL]
}

/// A picture with these marks; nothing else in it is bright.
fn draw(marks: &[bool], random: &mut impl rand::Rng) -> GrayImage {
    let mut picture = GrayImage::from_fn(SIDE, SIDE, |_, _| Luma([random.random_range(20..50)]));
    for cell in (0..CELLS.len()).filter(|cell| marks[*cell]) {
        let [left, top] = corner(cell);
        for (x, y) in (0..CELL).flat_map(|x| (0..CELL).map(move |y| (x, y))) {
            let [dx, dy] = [x, y].map(|at| (f64::from(at) - 11.5) / 12.0);
            let radius = dx.hypot(dy);
            let inside = match cell % 3 {
                0 => radius < 0.8,
                1 => dy.abs() < 0.45,
                _ => (0.35..0.95).contains(&radius),
            };
            if inside {
                picture.put_pixel(left + x, top + y, Luma([230]));
            }
        }
    }
    picture
}

impl Drawn {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let drawn = Self { folder };
        fs::create_dir(drawn.root()).expect("made");
        let mut random = numbers(5, Stream::Samples);
        let d = CELLS.len() + 2;
        let (mut records, mut vectors) = (Vec::new(), Vec::new());
        for at in 0..COUNT {
            let marks: Vec<bool> = CELLS.iter().map(|_| random.random_bool(SHARE)).collect();
            let image = format!("{at:03}.png");
            draw(&marks, &mut random).save(drawn.root().join(&image)).expect("saved");
            let noise = |random: &mut _| rand::RngExt::random_range(random, 0.0_f32..0.2);
            for mark in marks.iter().map(|mark| if *mark { 1.0_f32 } else { 0.0 }) {
                vectors.push(mark + noise(&mut random));
            }
            vectors.extend([1.0, noise(&mut random)]);
            let patient = Some(format!("p{at}"));
            records.push(Record { image, patient, ..Record::default() });
        }
        drawn.write(&records, &vectors, d);
        fs::write(drawn.sae(), export::file(&sae(d)).expect("a file")).expect("written");
        drawn
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    pub(crate) fn vectors(&self) -> PathBuf {
        self.folder.path().join("vectors")
    }

    pub(crate) fn sae(&self) -> PathBuf {
        self.folder.path().join("sae.safetensors")
    }

    /// An embeddings folder, as `embed` makes it.
    fn write(&self, records: &[Record], vectors: &[f32], d: usize) {
        let list = records.iter().map(|record| {
            let mut line = serde_json::to_vec(record).expect("a line");
            line.push(b'\n');
            line
        });
        let engine = Engine {
            backend: "none".into(),
            provider: "by hand".into(),
            precision: "fp32".into(),
            library: None,
            node_share: None,
        };
        let input = InputSpec {
            channels: 1,
            height: 48,
            width: 48,
            fit: Fit::Squash,
            mean: vec![0.5],
            std: vec![0.5],
        };
        let plan = Plan {
            v: FORMAT,
            bundle: Digest::of(b"bundle"),
            encoder: Digest::of(b"encoder"),
            input,
            engine,
            level: Level::Embedding,
            dtype: Dtype::F32,
            shape: vec![d],
            views: Views { count: 1, seed: 0, flip: false },
            shard_images: records.len(),
            layout: Layout::Files,
            labels: Vec::new(),
            images: records.len(),
            absent: 0,
            list: Digest::of(&list.collect::<Vec<_>>().concat()),
            decode: clearfilm::config::Decode::default(),
            structure: clearfilm::config::DicomLimits::default(),
        };
        let folder = Folder::at(&self.vectors());
        write_plan(&folder, &plan, records).expect("planned");
        let (_, digest) = Plan::read(&folder).expect("a plan");
        let bytes = shard(vectors, records.len(), d);
        let done = Done {
            v: FORMAT,
            plan: digest,
            rows: records.len(),
            sha256: Digest::of(&bytes),
            refused: Vec::new(),
        };
        fs::write(folder.shard(0), bytes).expect("written");
        fs::write(folder.done(0), serde_json::to_vec(&done).expect("a record")).expect("written");
        finish(&folder, 0.0).expect("finished");
    }
}

fn shard(vectors: &[f32], n: usize, d: usize) -> Vec<u8> {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let numbers = (0..u32::try_from(n).expect("few")).flat_map(u32::to_le_bytes).collect();
    let tensors: [(&str, Stored, Vec<usize>, Vec<u8>); 5] = [
        ("embedding", Stored::F32, vec![n, d], bytes(vectors)),
        (IMAGES, Stored::U32, vec![n], numbers),
        (VIEWS, Stored::U32, vec![n], vec![0; 4 * n]),
        (DIGESTS, Stored::U8, vec![n, 32], vec![0; 32 * n]),
        (INTENSITY, Stored::F32, vec![n, 8], vec![0; 32 * n]),
    ];
    let views = tensors.iter().map(|(name, stored, shape, bytes)| {
        (*name, TensorView::new(*stored, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize(views.collect::<Vec<_>>(), None).expect("a file")
}

/// A latent for each place, which fires where its mark is.
fn sae(d: usize) -> Sae {
    let rows = CELLS.len();
    let values: Vec<f32> =
        (0..rows * d).map(|at| if at / d == at % d { 1.0 } else { 0.0 }).collect();
    let matrix = || Weights::F32(Matrix { rows, columns: d, values: values.clone() });
    Sae {
        level: Level::Embedding,
        w_enc: matrix(),
        b_enc: vec![0.0; rows],
        w_dec: matrix(),
        b_dec: vec![0.0; d],
        threshold: vec![0.5; rows],
    }
}

/// Every file of a folder of replies, by name.
pub(crate) fn replies(out: &Path) -> Vec<String> {
    let files = fs::read_dir(out.join("replies")).expect("a folder").flatten();
    let mut names: Vec<String> =
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
