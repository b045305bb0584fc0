//! Pictures to vectors: a plan, shards that any process can make, and one table at the end.
//!
//! The folder is described in `docs/embeddings.md`. A shard is valid with its record only, whoever
//! made it; nothing else is remembered, so any scheduler will do.

mod finish;
mod folder;
mod plan;
mod pictures;
mod shard;

pub use finish::{Finished, Manifest, ShardEntry, finish};
pub use folder::{EmbedError, Folder};
pub use pictures::{Pictures, Refused};
pub use plan::{Dtype, FORMAT, Plan, Views, read_images, write_plan};
pub use shard::{DIGESTS, Done, IMAGES, INTENSITY, Maker, VIEWS, tensor, valid};
