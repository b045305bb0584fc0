//! `clearfilm phantom`: radiographs that no patient ever had, for demos, tests and training.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use clearfilm::phantom::{Encoding, Phantom as Drawn, Photometric, Projection, Variant};

/// Draw phantoms: chest radiographs that no patient ever had, as DICOM or PNG.
///
/// A seed is a patient: its variants share one anatomy, so that a finding is the only difference.
/// The same arguments write the same bytes on every machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  clearfilm phantom --out phantoms --count 6
      one patient of each variant, PA, as DICOM
  clearfilm phantom --out phantoms --count 10 --variant effusion --projection both
      ten patients with pleural effusion, each PA and AP: 20 DICOM files
  clearfilm phantom --out set --count 3000 --png --rows 512 --columns 512 --labels set.csv
      a training set, every variant in turn, with its labels

A phantom looks like a radiograph at arm's length. It is no model of disease: what reads phantoms
well is shown to read phantoms, nothing else.")]
pub(crate) struct Phantom {
    /// Folder to write to; made if it is missing.
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// How many seeds to draw, counted up from --seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// First seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// What is to be seen; `all` takes the next variant with each seed.
    #[arg(long, value_enum, default_value_t = VariantArgument::All)]
    variant: VariantArgument,
    /// How the patient stands; `both` draws each seed twice.
    #[arg(long, value_enum, default_value_t = ProjectionArgument::Pa)]
    projection: ProjectionArgument,
    /// Height, pixels.
    #[arg(long, default_value_t = Encoding::default().rows, value_parser = side)]
    rows: usize,
    /// Width, pixels.
    #[arg(long, default_value_t = Encoding::default().columns, value_parser = side)]
    columns: usize,
    /// Bits of a stored DICOM sample.
    #[arg(long, default_value_t = Encoding::default().bits_stored, value_parser = clap::value_parser!(u16).range(8..=16))]
    bits: u16,
    /// Whether the smallest DICOM sample is white (monochrome1) or black (monochrome2).
    #[arg(long, value_enum, default_value_t = PhotometricArgument::Monochrome2)]
    photometric: PhotometricArgument,
    /// Write 8-bit PNG instead of DICOM.
    #[arg(long)]
    png: bool,
    /// Also write a table of what was drawn: file,seed,variant,projection.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum VariantArgument {
    /// Every variant in turn.
    All,
    /// Nothing but the chest.
    Normal,
    /// Fluid at the base of one lung or both.
    Effusion,
    /// A heart wider than 0.55 of the thorax.
    Cardiomegaly,
    /// Air between one lung and the chest wall.
    Pneumothorax,
    /// One to three round opacities.
    Nodule,
    /// Pacemaker, or tubes, lines and electrodes.
    Device,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProjectionArgument {
    /// From back to front, standing.
    Pa,
    /// From front to back, mostly at the bedside.
    Ap,
    /// One of each.
    Both,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PhotometricArgument {
    /// Small samples are bright.
    Monochrome1,
    /// Small samples are dark.
    Monochrome2,
}

/// Side of a picture: what Rows and Columns can say, and enough to see something.
fn side(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(side @ 16..=65_535) => Ok(side),
        Ok(_) | Err(_) => Err("expected 16 to 65535 pixels".into()),
    }
}

/// Threads that draw: the cores of a small appliance.
const THREADS: usize = 2;

impl Phantom {
    /// What is drawn, in the order of the labels.
    fn phantoms(&self) -> impl Iterator<Item = Drawn> + '_ {
        let projections: &[Projection] = match self.projection {
            ProjectionArgument::Pa => &[Projection::Pa],
            ProjectionArgument::Ap => &[Projection::Ap],
            ProjectionArgument::Both => &Projection::ALL,
        };
        let seeds = self.seed..self.seed.saturating_add(self.count);
        seeds.flat_map(move |seed| {
            let variant = self.variant_of(seed);
            projections.iter().map(move |&projection| Drawn { seed, projection, variant })
        })
    }

    fn variant_of(&self, seed: u64) -> Variant {
        match self.variant {
            VariantArgument::All => {
                let turn = seed % Variant::ALL.len() as u64;
                Variant::ALL
                    .into_iter()
                    .zip(0..)
                    .find(|&(_, i)| i == turn)
                    .map_or(Variant::Normal, |found| found.0)
            }
            VariantArgument::Normal => Variant::Normal,
            VariantArgument::Effusion => Variant::Effusion,
            VariantArgument::Cardiomegaly => Variant::Cardiomegaly,
            VariantArgument::Pneumothorax => Variant::Pneumothorax,
            VariantArgument::Nodule => Variant::Nodule,
            VariantArgument::Device => Variant::Device,
        }
    }

    fn file_name(&self, phantom: &Drawn) -> String {
        let projection = phantom.projection.name().to_ascii_lowercase();
        let kind = if self.png { "png" } else { "dcm" };
        format!("phantom-{}-{}-{projection}.{kind}", phantom.seed, phantom.variant)
    }

    fn write(&self, phantom: &Drawn) -> anyhow::Result<()> {
        let photometric = match self.photometric {
            PhotometricArgument::Monochrome1 => Photometric::Monochrome1,
            PhotometricArgument::Monochrome2 => Photometric::Monochrome2,
        };
        let (rows, columns) = (self.rows, self.columns);
        let bytes = if self.png {
            phantom.draw(rows, columns).to_png()?
        } else {
            phantom.to_dicom(&Encoding { rows, columns, bits_stored: self.bits, photometric })?
        };
        let file = self.out.join(self.file_name(phantom));
        fs::write(&file, bytes).with_context(|| format!("writing {}", file.display()))
    }

    fn labels(&self) -> String {
        let mut table = String::from("file,seed,variant,projection\n");
        for phantom in self.phantoms() {
            let Drawn { seed, variant, projection } = phantom;
            table +=
                &format!("{},{seed},{variant},{}\n", self.file_name(&phantom), projection.name());
        }
        table
    }
}

pub(super) fn run(phantom: &Phantom) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&phantom.out)
        .with_context(|| format!("making the folder {}", phantom.out.display()))?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|nth| {
                let share = phantom.phantoms().skip(nth).step_by(THREADS);
                let name = format!("phantom-{}", nth + 1);
                let work = move || {
                    share.map(|drawn| phantom.write(&drawn)).collect::<anyhow::Result<Vec<_>>>()
                };
                thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, work)
                    .context("starting a thread that draws")
            })
            .collect();
        let mut written = 0;
        for worker in workers {
            written += worker?.join().map_err(|_| anyhow!("a thread that draws panicked"))??.len();
        }
        if let Some(file) = &phantom.labels {
            fs::write(file, phantom.labels())
                .with_context(|| format!("writing the labels {}", file.display()))?;
        }
        anstream::println!("{written} phantoms written to {}", phantom.out.display());
        Ok(ExitCode::SUCCESS)
    })
}
