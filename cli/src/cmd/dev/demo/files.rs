//! The files that the demo's jobs read: those of a folder, as far as they are worth it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The most files that are read.
const FILES_MAX: usize = 5_000;

/// The most bytes of one file that are read.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The most bytes of all files together, so that the demo takes about as long on any folder.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Folders that hold what was built or fetched.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// A folder and its files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The folder.
    pub(super) root: PathBuf,
    /// Paths below it, sorted.
    pub(super) paths: Vec<String>,
    /// Whether the folder has more than are read.
    pub(super) is_cut: bool,
}

impl Files {
    /// Walks a folder. Hidden and built files are left out, as are links and what can't be read.
    pub(super) fn below(root: &Path) -> anyhow::Result<Self> {
        let shown = root.display();
        let root = root
            .canonicalize()
            .with_context(|| format!("can't read the folder `{shown}`"))?;
        if !root.is_dir() {
            bail!("`{shown}` is no folder, expected one whose files the demo can hash and count");
        }
        let mut files = Self {
            paths: Vec::new(),
            is_cut: false,
            root,
        };
        files.walk();
        if files.paths.is_empty() {
            bail!(
                "the folder `{shown}` has no files, expected some that the demo can hash and count"
            );
        }
        files.paths.sort_unstable();
        Ok(files)
    }

    fn walk(&mut self) {
        let mut folders = vec![self.root.clone()];
        let mut bytes = 0;
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                    continue;
                };
                if kind.is_dir() && !SKIPPED.contains(&name) {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let length = entry.metadata().map_or(0, |metadata| metadata.len());
                    bytes += length.min(FILE_BYTES_MAX);
                    if self.paths.len() == FILES_MAX || bytes > BYTES_MAX {
                        self.is_cut = true;
                        return;
                    }
                    self.add(&entry.path());
                }
            }
        }
    }

    fn add(&mut self, path: &Path) {
        let below = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
        // A name that is not UTF-8 does not fit into a job's arguments.
        self.paths.extend(below.map(str::to_owned));
    }
}

/// The folder that is read where none is named: the project, where cargo runs us, else where one
/// stands.
pub(super) fn folder_default() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    match package.as_deref().and_then(Path::parent) {
        Some(project) => project.to_owned(),
        None => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_files_and_leaves_out_what_was_built_or_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "text").unwrap();
        };
        for name in ["b.txt", "a/c.txt", "target/x", ".git/y", ".hidden"] {
            put(name);
        }
        let files = Files::below(folder.path()).unwrap();
        assert_eq!(files.paths, ["a/c.txt", "b.txt"]);
        assert!(!files.is_cut);
    }

    #[test]
    fn a_folder_without_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Files::below(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no files"), "{error}");
        let error = Files::below(&folder.path().join("gone")).unwrap_err();
        assert!(error.to_string().contains("can't read"), "{error}");
    }
}
