//! Files that hold secrets: who may own them, how they are read, and how they are written so that a crash or a full
//! disk leaves either the old file or the new one, whole.

mod drafts;
mod error;
mod lock;
mod owner;
mod read;
mod write;

pub use drafts::sweep_drafts;
pub use error::FileError;
pub use lock::Lock;
pub use owner::{SPA_USER, group_id, owner_of_secrets, user_id, user_ids};
pub use read::{Limits, check_private, read_text, read_text_at};
pub use write::{create_dir, create_new, create_own, create_own_dir, link, remove, rename_new, replace};
