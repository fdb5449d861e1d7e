//! Paths of an image: looked up, listed, and walked whole. Symlinks are followed inside the image and nowhere else.

use super::folder::{Folder, Node, What, read_folder};
use super::image::Image;
use super::{
    Budget, Bytes, DEPTH, Extent, Extents, IMAGE_ENTRIES, IsoError, LINKS, LOOKUP_BYTES, NAMED, STEPS, WALK_BYTES,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A folder.
    Folder(Extent),
    /// A file: where its bytes lie, and seconds since 1970.
    File(Extents, i64),
}

/// One entry of a listing, with symlinks followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// True for a folder.
    pub is_folder: bool,
    /// Bytes; 0 for a folder.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
}

/// What an image holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders, with the root.
    pub folders: u64,
    /// Symlinks.
    pub links: u64,
    /// Symlinks that lead out of the image, with where to; the first 100.
    pub leads_out: Vec<(String, String)>,
    /// What cannot be served, with the reason; the first 100.
    pub unservable: Vec<(String, &'static str)>,
    /// Names that are not UTF-8, as they may be shown; the first 100.
    pub odd_names: Vec<String>,
}

/// Keeps folders that were read, so that the next look-up need not read them again.
pub trait Keep {
    /// The folder that lies at `at`, if it is kept.
    fn get(&self, at: Extent) -> Option<Arc<Folder>>;
    /// Keeps `folder`, or not.
    fn put(&self, at: Extent, folder: &Arc<Folder>);
}

/// Keeps nothing.
impl Keep for () {
    fn get(&self, _: Extent) -> Option<Arc<Folder>> {
        None
    }

    fn put(&self, _: Extent, _: &Arc<Folder>) {}
}

impl<S: Bytes> Image<S> {
    /// What `path` leads to, from the root; empty components and `.` are skipped.
    ///
    /// # Errors
    /// [`IsoError::Missing`] and its like, or what is wrong with a folder on the way.
    pub fn find(&self, path: &str, keep: &dyn Keep) -> Result<Found, IsoError> {
        let mut lookup = Lookup::new(self, keep);
        lookup.begin(path).map(|place| place.found(self.root()))
    }

    /// The entries of the folder `path`, by name. Left out: symlinks that lead nowhere or out, and what can never be served.
    ///
    /// # Errors
    /// As [`Image::find`], and [`IsoError::NotAFolder`].
    pub fn list(&self, path: &str, keep: &dyn Keep) -> Result<Vec<Listed>, IsoError> {
        let mut lookup = Lookup::new(self, keep);
        let place = lookup.begin(path)?;
        let Found::Folder(at) = place.found(self.root()) else {
            return Err(IsoError::NotAFolder(path.to_owned()));
        };
        let folder = lookup.open(at)?;
        let mut listed = Vec::new();
        for node in folder.nodes() {
            let found = match &node.what {
                What::Folder(at) => Found::Folder(*at),
                What::File(extents) => Found::File(extents.clone(), node.modified),
                What::Link(target) => match lookup.follow(place.folders.clone(), target, &node.name) {
                    Ok(place) => place.found(self.root()),
                    Err(error @ (IsoError::Read { .. } | IsoError::Malformed { .. } | IsoError::Limit { .. })) => {
                        return Err(error);
                    }
                    Err(_) => continue,
                },
                What::Other(_) => continue,
            };
            listed.push(match found {
                Found::Folder(_) => Listed {
                    name: node.name.clone(),
                    is_folder: true,
                    size: 0,
                    modified: node.modified,
                },
                Found::File(extents, modified) => Listed {
                    name: node.name.clone(),
                    is_folder: false,
                    size: extents.size(),
                    modified,
                },
            });
        }
        Ok(listed)
    }

    /// Walks over all of the image. `each` hears of every entry: its path, and what it is.
    ///
    /// # Errors
    /// The first thing that is wrong: a folder that cannot be read or is reached twice, more entries or levels than are allowed, files
    /// that together are longer than the image.
    pub fn walk(&self, each: &mut dyn FnMut(&str, &Node)) -> Result<Contents, IsoError> {
        let mut budget = Budget::new(WALK_BYTES);
        let mut contents = Contents::default();
        let mut seen = BTreeSet::from([self.root().offset]);
        let mut entries = 0_u64;
        let mut runs: Vec<Extent> = Vec::new();
        let mut levels = vec![self.level(self.root(), String::new(), &mut contents, &mut budget)?];
        while let Some(level) = levels.last_mut() {
            let Some(node) = level.rest.next() else {
                levels.pop();
                contents.folders = contents.folders.saturating_add(1);
                continue;
            };
            entries = entries.saturating_add(1);
            if entries > IMAGE_ENTRIES {
                return Err(IsoError::Limit {
                    offset: level.at.offset,
                    what: "entries in an image",
                    most: IMAGE_ENTRIES,
                });
            }
            let path = format!("{}{}", level.path, node.name);
            each(&path, &node);
            match node.what {
                What::File(extents) => {
                    contents.files = contents.files.saturating_add(1);
                    contents.bytes = contents.bytes.saturating_add(extents.size());
                    runs.extend_from_slice(extents.runs());
                }
                What::Link(target) => {
                    contents.links = contents.links.saturating_add(1);
                    if climbs_out(levels.len().saturating_sub(1), &target) && contents.leads_out.len() < NAMED {
                        contents.leads_out.push((path, target));
                    }
                }
                What::Other(why) if contents.unservable.len() < NAMED => contents.unservable.push((path, why)),
                What::Other(_) => {}
                What::Folder(at) => {
                    if !seen.insert(at.offset) {
                        return Err(IsoError::Malformed {
                            offset: at.offset,
                            expected: "a folder that is reached by one way",
                            found: format!("`{}` as another", path.escape_debug()),
                        });
                    }
                    if levels.len() >= DEPTH {
                        return Err(too_deep(at));
                    }
                    levels.push(self.level(at, format!("{path}/"), &mut contents, &mut budget)?);
                }
            }
        }
        // Hard links share their bytes; an image that claims more than it has is made to fill a disk.
        runs.sort_unstable_by_key(|run| (run.offset, std::cmp::Reverse(run.length)));
        runs.dedup_by_key(|run| run.offset);
        let distinct = runs.iter().fold(0_u64, |sum, run| sum.saturating_add(run.length));
        if distinct > self.size() {
            return Err(IsoError::Malformed {
                offset: self.root().offset,
                expected: "files that share no bytes",
                found: format!("{distinct} bytes of files in an image of {}", self.size()),
            });
        }
        Ok(contents)
    }

    fn level(&self, at: Extent, path: String, contents: &mut Contents, budget: &mut Budget) -> Result<Level, IsoError> {
        let folder = read_folder(self, at, budget)?;
        for name in &folder.odd_names {
            if contents.odd_names.len() < NAMED {
                contents.odd_names.push(format!("{path}{name}"));
            }
        }
        Ok(Level {
            at,
            path,
            rest: folder.into_nodes().into_iter(),
        })
    }
}

/// One folder on the way down of a walk.
struct Level {
    at: Extent,
    path: String,
    rest: std::vec::IntoIter<Node>,
}

fn too_deep(at: Extent) -> IsoError {
    IsoError::Limit {
        offset: at.offset,
        what: "folders below one another",
        most: u64::try_from(DEPTH).unwrap_or(u64::MAX),
    }
}

/// Does the text of a symlink, `depth` folders below the root, climb out of the image?
fn climbs_out(depth: usize, target: &str) -> bool {
    let mut depth = depth;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            _ => depth = depth.saturating_add(1),
        }
    }
    target.starts_with('/')
}

/// Where a path led: the folders passed below the root, and the file at its end.
struct Place {
    folders: Vec<Extent>,
    file: Option<(Extents, i64)>,
}

impl Place {
    fn found(&self, root: Extent) -> Found {
        match &self.file {
            Some((extents, modified)) => Found::File(extents.clone(), *modified),
            None => Found::Folder(self.folders.last().copied().unwrap_or(root)),
        }
    }
}

/// One operation: what it has read is counted.
struct Lookup<'a, S> {
    image: &'a Image<S>,
    keep: &'a dyn Keep,
    budget: Budget,
    steps: u64,
}

impl<'a, S: Bytes> Lookup<'a, S> {
    fn new(image: &'a Image<S>, keep: &'a dyn Keep) -> Self {
        Self {
            image,
            keep,
            budget: Budget::new(LOOKUP_BYTES),
            steps: 0,
        }
    }

    fn open(&mut self, at: Extent) -> Result<Arc<Folder>, IsoError> {
        if let Some(kept) = self.keep.get(at) {
            return Ok(kept);
        }
        let folder = Arc::new(read_folder(self.image, at, &mut self.budget)?);
        self.keep.put(at, &folder);
        Ok(folder)
    }

    fn begin(&mut self, path: &str) -> Result<Place, IsoError> {
        if path.contains('\0') || path.split('/').any(|part| part == "..") {
            return Err(IsoError::BadPath);
        }
        self.follow(Vec::new(), path.trim_start_matches('/'), path)
    }

    /// Goes `path` from the folder that `folders` lead to; `asked` is its name for people.
    fn follow(&mut self, folders: Vec<Extent>, path: &str, asked: &str) -> Result<Place, IsoError> {
        if path.starts_with('/') {
            return Err(IsoError::LeadsOut(asked.to_owned()));
        }
        let mut place = Place { folders, file: None };
        let mut rest: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut links = 0_usize;
        while let Some(part) = rest.pop() {
            let here = place.folders.last().copied().unwrap_or_else(|| self.image.root());
            self.steps = self.steps.saturating_add(1);
            if self.steps > STEPS {
                return Err(IsoError::Limit {
                    offset: here.offset,
                    what: "steps in one operation",
                    most: STEPS,
                });
            }
            match part.as_str() {
                "" | "." => continue,
                _ if place.file.is_some() => return Err(IsoError::NotAFolder(asked.to_owned())),
                ".." => {
                    if place.folders.pop().is_none() {
                        return Err(IsoError::LeadsOut(asked.to_owned()));
                    }
                    continue;
                }
                _ => {}
            }
            let folder = self.open(here)?;
            let node = folder.find(&part);
            let node = node.ok_or_else(|| IsoError::Missing(asked.to_owned()))?;
            match &node.what {
                What::Folder(at) => {
                    if place.folders.len() >= DEPTH {
                        return Err(too_deep(*at));
                    }
                    place.folders.push(*at);
                }
                What::File(extents) => place.file = Some((extents.clone(), node.modified)),
                What::Link(target) => {
                    links = links.saturating_add(1);
                    if links > LINKS {
                        return Err(IsoError::TooManyLinks { path: asked.to_owned() });
                    }
                    if target.starts_with('/') {
                        return Err(IsoError::LeadsOut(asked.to_owned()));
                    }
                    rest.extend(target.rsplit('/').map(str::to_owned));
                }
                What::Other(what) => {
                    return Err(IsoError::Unservable {
                        path: asked.to_owned(),
                        what,
                    });
                }
            }
        }
        Ok(place)
    }
}
