//! Users of the network faces, in inventory.db: a name, a role, and what Argon2 made of the password. Never a password, and never out of
//! this file what stands for one.

use super::database;
use super::inventory_db::SCHEMA;
use super::{Folder, StoreError};
use crate::model::{Role, Secret, Standing, Timestamp};
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The users of a state folder.
#[derive(Debug)]
pub struct Users {
    connection: Connection,
    path: PathBuf,
}

impl Users {
    /// Opens them.
    ///
    /// # Errors
    /// As for [`super::InventoryDb::open`].
    pub fn open(folder: &Folder) -> Result<Self, StoreError> {
        Ok(Self {
            connection: database::open(folder, &SCHEMA)?,
            path: folder.path().join(SCHEMA.file),
        })
    }

    /// Their names and roles.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<(String, Role)>, StoreError> {
        let sql = StoreError::sql(&self.path);
        let mut query = self
            .connection
            .prepare("SELECT name, role FROM users ORDER BY name")
            .map_err(&sql)?;
        let rows = query
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(&sql)?;
        let mut all = Vec::new();
        for row in rows {
            let (name, role) = row.map_err(&sql)?;
            all.push((name, role.parse().unwrap_or(Role::Reader)));
        }
        Ok(all)
    }

    /// Makes a user; false when there is one of that name.
    ///
    /// # Errors
    /// When it cannot be stored, or the system gives no random numbers.
    pub fn add(&self, name: &str, role: Role, password: &Secret<String>, now: Timestamp) -> Result<bool, StoreError> {
        let hash = self.hash(password)?;
        let made = self.connection.execute(
            "INSERT INTO users VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![name, role.as_str(), hash, now.0],
        );
        Ok(made.map_err(StoreError::sql(&self.path))? == 1)
    }

    /// Gives a user another password; false when there is no such user. His logins end.
    ///
    /// # Errors
    /// As for [`Users::add`].
    pub fn change(&self, name: &str, password: &Secret<String>, now: Timestamp) -> Result<bool, StoreError> {
        let hash = self.hash(password)?;
        let changed = self.connection.execute(
            "UPDATE users SET hash = ?2, stamp = max(?3, stamp + 1) WHERE name = ?1",
            params![name, hash, now.0],
        );
        Ok(changed.map_err(StoreError::sql(&self.path))? == 1)
    }

    /// Takes a user out; false when there is no such user. His logins end.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let removed = self.connection.execute("DELETE FROM users WHERE name = ?1", [name]);
        Ok(removed.map_err(StoreError::sql(&self.path))? == 1)
    }

    /// How a user stands; none when there is no such user.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn standing(&self, name: &str) -> Result<Option<Standing>, StoreError> {
        Ok(self.row(name)?.map(|(standing, _)| standing))
    }

    /// How a user stands when the password is his. For a user that there is not it takes as long.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn verify(&self, name: &str, password: &Secret<String>) -> Result<Option<Standing>, StoreError> {
        static NOBODY: OnceLock<String> = OnceLock::new();
        let row = self.row(name)?;
        let hash = match &row {
            Some((_, hash)) => hash.clone(),
            None => match NOBODY.get() {
                Some(hash) => hash.clone(),
                None => {
                    let made = self.hash(&Secret::new("nobody has this".to_owned()))?;
                    NOBODY.get_or_init(|| made).clone()
                }
            },
        };
        let fits = PasswordHash::new(&hash).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.reveal().as_bytes(), &hash)
                .is_ok()
        });
        Ok(row.filter(|_| fits).map(|(standing, _)| standing))
    }

    fn row(&self, name: &str) -> Result<Option<(Standing, String)>, StoreError> {
        let found = self
            .connection
            .query_row("SELECT role, hash, stamp FROM users WHERE name = ?1", [name], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            })
            .optional()
            .map_err(StoreError::sql(&self.path))?;
        Ok(found.map(|(role, hash, stamp)| {
            let role = role.parse().unwrap_or(Role::Reader);
            (Standing { role, stamp }, hash)
        }))
    }

    fn hash(&self, password: &Secret<String>) -> Result<String, StoreError> {
        let hash = Argon2::default().hash_password(password.reveal().as_bytes());
        hash.map(|hash| hash.to_string()).map_err(|_| StoreError::Io {
            path: self.path.clone(),
            doing: "get random bytes for a password's salt",
            source: std::io::Error::other("the system gives none"),
        })
    }
}
