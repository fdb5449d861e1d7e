//! The one table of methods, and the one gate. A method that is not in the table does not exist, whatever it is called.
//!
//! Pure.

use super::fault::Fault;
use super::item::What;
use super::session::{Sessions, Task};
use super::value::Value;
use super::{power, read, register, rendered, status, task, text, write};
use crate::boot::World;
use crate::inventory::Change;
use crate::model::{Name, Power, Role, Secret};
use crate::ports::{Caller, TextChange};
use std::collections::BTreeMap;

/// What a method needs of the one who calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing. What it gives is for anyone, and more for who is logged in.
    Nothing,
    /// A login.
    Login,
    /// The login of a user who may change things.
    Admin,
}

/// How a method is done.
#[derive(Clone, Copy)]
enum Run {
    /// It only looks.
    Look(fn(&Asked<'_>) -> Result<Value, Fault>),
    /// It remembers or changes something.
    Keep(fn(&Asked<'_>, &mut Sessions) -> Result<Outcome, Fault>),
}

/// One method.
#[derive(Clone, Copy)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// The kind of object that its name holds.
    what: &'static str,
    run: Run,
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} needs {:?}", self.name, self.needs)
    }
}

impl Method {
    /// True when it is one of Cobbler's words for a sync.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(
            self.name,
            "sync" | "sync_dhcp" | "background_sync" | "background_syncsystems"
        )
    }

    /// True when it only looks, so that it holds up no other call.
    #[must_use]
    pub const fn looks(&self) -> bool {
        matches!(self.run, Run::Look(_))
    }
}

/// A call that passed the gate.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// What is called.
    pub method: &'static Method,
    /// The user and his token; none for anyone.
    pub login: Option<(String, Role, String)>,
}

/// A call as its method sees it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What is true now.
    pub world: &'a World,
    /// Who calls.
    pub caller: Caller,
    /// With what.
    pub arguments: &'a [Value],
    /// Logged in as whom.
    pub admitted: &'a Admitted,
    /// 256 random bits of this call's own.
    pub random: &'a [u8; 32],
}

/// What a method that keeps something leads to.
#[derive(Debug)]
pub enum Outcome {
    /// The answer.
    Done(Value),
    /// The answer, once this user's password was verified.
    Verify {
        /// The user.
        user: String,
        /// What he says his password is.
        password: Secret<String>,
    },
    /// The answer, once the supervisor of guests has done it; with a task its id, at once.
    Power {
        /// Of these.
        systems: Vec<Name>,
        /// What is wished.
        power: Power,
        /// The task that does it, if one does.
        task: Option<Box<Task>>,
    },
    /// The answer, once these changes are stored.
    Store {
        /// The changes, all or none.
        changes: Vec<Change>,
        /// The answer.
        then: Value,
        /// Drafts that are saved by it.
        saved: Vec<String>,
        /// The task that it belongs to.
        task: Option<Box<Task>>,
    },
    /// True, once this template or snippet is as it says.
    Write(TextChange),
}

impl<'a> Asked<'a> {
    /// The argument at a place.
    pub(super) fn argument(&self, place: usize) -> Option<&'a Value> {
        self.arguments.get(place)
    }

    /// The text at a place.
    pub(super) fn text(&self, place: usize) -> Result<&'a str, Fault> {
        let found = self.argument(place).and_then(Value::text);
        found.ok_or_else(|| Fault::argument(&format!("argument {} must be a string", place.saturating_add(1))))
    }

    /// The kind of object that is meant, and the place of the argument after it.
    pub(super) fn what(&self) -> Result<(What, usize), Fault> {
        let (word, next) = match self.admitted.method.what {
            "" => (self.text(0)?, 1),
            word => (word, 0),
        };
        // Cobbler's users write both.
        let one = word.strip_suffix('s').filter(|_| word != "mgmtclass").unwrap_or(word);
        let what = What::of(one).or_else(|| What::of(word));
        what.map(|what| (what, next))
            .ok_or_else(|| Fault::cx("there are no objects of this kind"))
    }

    /// True for who is logged in.
    pub(super) const fn is_known(&self) -> bool {
        self.admitted.login.is_some()
    }

    /// The user and the token.
    pub(super) fn login(&self) -> Result<(&'a str, &'a str), Fault> {
        let login = self.admitted.login.as_ref();
        let (user, _, token) = login.ok_or_else(Fault::token)?;
        Ok((user, token))
    }
}

/// The gate: whether this method may be called with these arguments. A token counts wherever it stands among them: the places changed
/// between versions of Cobbler (community.general issue 8506).
///
/// # Errors
/// The fault for a method that there is not, and for a login that is missing or not enough.
pub fn admit(world: &World, sessions: &mut Sessions, name: &str, arguments: &[Value]) -> Result<Admitted, Fault> {
    let method = METHODS
        .iter()
        .find(|method| method.name == name)
        .ok_or_else(|| Fault::no_method(name))?;
    let lasts = world.config.cobbler.session.0;
    let login = arguments.iter().rev().filter_map(Value::text).find_map(|text| {
        let (user, role) = sessions.user(text, world.now, lasts)?;
        Some((user, role, text.to_owned()))
    });
    match (method.needs, &login) {
        (Needs::Nothing, _) | (Needs::Login, Some(_)) | (Needs::Admin, Some((_, Role::Admin, _))) => {}
        (Needs::Admin, Some((user, ..))) => {
            return Err(Fault::cx(&format!("authorization failure for user {user}")));
        }
        (Needs::Login | Needs::Admin, None) => return Err(Fault::token()),
    }
    Ok(Admitted { method, login })
}

/// Answers a method that only looks.
///
/// # Errors
/// [`Fault`].
pub fn look(asked: &Asked<'_>) -> Result<Value, Fault> {
    match asked.admitted.method.run {
        Run::Look(run) => run(asked),
        Run::Keep(_) => Err(Fault::no_method(asked.admitted.method.name)),
    }
}

/// Does a method that remembers or changes something.
///
/// # Errors
/// [`Fault`]; then nothing was changed.
pub fn keep(asked: &Asked<'_>, sessions: &mut Sessions) -> Result<Outcome, Fault> {
    match asked.admitted.method.run {
        Run::Look(run) => run(asked).map(Outcome::Done),
        Run::Keep(run) => run(asked, sessions),
    }
}

/// An empty struct, which koan takes for "not found".
pub(super) const fn nothing() -> Value {
    Value::Struct(BTreeMap::new())
}

macro_rules! method {
    ($name:literal $needs:ident look $run:expr) => {
        method!($name $needs look $run, "")
    };
    ($name:literal $needs:ident look $run:expr, $what:literal) => {
        Method { name: $name, needs: Needs::$needs, what: $what, run: Run::Look($run) }
    };
    ($name:literal $needs:ident keep $run:expr) => {
        method!($name $needs keep $run, "")
    };
    ($name:literal $needs:ident keep $run:expr, $what:literal) => {
        Method { name: $name, needs: Needs::$needs, what: $what, run: Run::Keep($run) }
    };
}

/// The methods that each kind of object has under its own name.
macro_rules! of_kind {
    ($what:literal: $get:literal $all:literal $since:literal $find:literal $handle:literal $new:literal $modify:literal $save:literal
     $copy:literal $rename:literal $remove:literal $rendered:literal) => {
        [
            method!($get Nothing look read::get, $what),
            method!($all Nothing look read::all, $what),
            method!($since Login look read::since, $what),
            method!($find Login look read::find, $what),
            method!($handle Nothing look write::handle, $what),
            method!($new Admin keep write::new, $what),
            method!($modify Admin keep write::modify, $what),
            method!($save Admin keep write::save, $what),
            method!($copy Admin keep write::copy, $what),
            method!($rename Admin keep write::rename, $what),
            method!($remove Admin keep write::remove, $what),
            method!($rendered Nothing look rendered::rendered, $what),
        ]
    };
}

const OWN: &[Method] = &[
    method!("ping" Nothing look read::ping),
    method!("version" Nothing look read::version),
    method!("extended_version" Nothing look read::extended_version),
    method!("last_modified_time" Nothing look read::last_modified_time),
    method!("login" Nothing keep write::login),
    method!("logout" Nothing keep write::logout),
    method!("token_check" Nothing look read::token_check),
    method!("get_user_from_token" Login look read::user_from_token),
    method!("check_access" Login look read::check_access),
    method!("check_access_no_fail" Nothing look read::check_access_no_fail),
    method!("get_item" Nothing look read::get),
    method!("get_items" Nothing look read::all),
    method!("get_item_names" Nothing look read::names),
    method!("find_items" Login look read::find),
    method!("find_items_paged" Login look read::find_paged),
    method!("has_item" Login look read::has),
    method!("get_item_handle" Nothing look write::handle),
    method!("new_item" Admin keep write::new),
    method!("new_subprofile" Admin keep write::new, "profile"),
    method!("modify_item" Admin keep write::modify),
    method!("save_item" Admin keep write::save),
    method!("copy_item" Admin keep write::copy),
    method!("rename_item" Admin keep write::rename),
    method!("remove_item" Admin keep write::remove),
    method!("xapi_object_edit" Admin keep write::xapi),
    method!("find_system_by_dns_name" Nothing look rendered::by_dns_name),
    method!("get_config_data" Nothing look rendered::config_data),
    method!("register_new_system" Nothing keep register::register),
    method!("get_blended_data" Login look read::blended),
    method!("dump_vars" Login look read::dump_vars),
    method!("generate_autoinstall" Login look read::autoinstall),
    method!("generate_profile_autoinstall" Login look read::profile_autoinstall),
    method!("generate_system_autoinstall" Login look read::system_autoinstall),
    method!("get_autoinstall_templates" Login look text::templates),
    method!("get_autoinstall_snippets" Login look text::snippets),
    method!("is_autoinstall_in_use" Login look text::template_in_use),
    method!("read_autoinstall_template" Admin look text::read),
    method!("write_autoinstall_template" Admin keep text::write),
    method!("remove_autoinstall_template" Admin keep text::remove),
    method!("read_autoinstall_snippet" Admin look text::read),
    method!("write_autoinstall_snippet" Admin keep text::write),
    method!("remove_autoinstall_snippet" Admin keep text::remove),
    method!("get_settings" Login look read::settings),
    method!("get_valid_breeds" Nothing look read::breeds),
    method!("get_valid_archs" Nothing look read::archs),
    method!("get_valid_distro_boot_loaders" Nothing look read::loaders),
    method!("get_valid_profile_boot_loaders" Nothing look read::loaders),
    method!("get_valid_system_boot_loaders" Nothing look read::loaders),
    method!("get_random_mac" Login look read::random_mac),
    method!("get_status" Login look status::status),
    method!("check" Login look read::check),
    method!("sync" Admin keep write::sync),
    method!("sync_dhcp" Admin keep write::sync),
    method!("background_sync" Admin keep task::sync),
    method!("background_syncsystems" Admin keep task::sync),
    method!("power_system" Admin keep power::system),
    method!("background_power_system" Admin keep power::background),
    method!("background_validate_autoinstall_files" Login keep task::validate),
    method!("get_events" Nothing keep task::events),
    method!("get_event_log" Nothing keep task::log),
    method!("get_task_status" Nothing keep task::status),
];

const OF_KINDS: [[Method; 12]; 9] = [
    of_kind!("distro": "get_distro" "get_distros" "get_distros_since" "find_distro" "get_distro_handle" "new_distro" "modify_distro"
        "save_distro" "copy_distro" "rename_distro" "remove_distro" "get_distro_as_rendered"),
    of_kind!("profile": "get_profile" "get_profiles" "get_profiles_since" "find_profile" "get_profile_handle" "new_profile"
        "modify_profile" "save_profile" "copy_profile" "rename_profile" "remove_profile" "get_profile_as_rendered"),
    of_kind!("system": "get_system" "get_systems" "get_systems_since" "find_system" "get_system_handle" "new_system" "modify_system"
        "save_system" "copy_system" "rename_system" "remove_system" "get_system_as_rendered"),
    of_kind!("repo": "get_repo" "get_repos" "get_repos_since" "find_repo" "get_repo_handle" "new_repo" "modify_repo" "save_repo"
        "copy_repo" "rename_repo" "remove_repo" "get_repo_as_rendered"),
    of_kind!("image": "get_image" "get_images" "get_images_since" "find_image" "get_image_handle" "new_image" "modify_image" "save_image"
        "copy_image" "rename_image" "remove_image" "get_image_as_rendered"),
    of_kind!("mgmtclass": "get_mgmtclass" "get_mgmtclasses" "get_mgmtclasses_since" "find_mgmtclass" "get_mgmtclass_handle"
        "new_mgmtclass" "modify_mgmtclass" "save_mgmtclass" "copy_mgmtclass" "rename_mgmtclass" "remove_mgmtclass"
        "get_mgmtclass_as_rendered"),
    of_kind!("package": "get_package" "get_packages" "get_packages_since" "find_package" "get_package_handle" "new_package"
        "modify_package" "save_package" "copy_package" "rename_package" "remove_package" "get_package_as_rendered"),
    of_kind!("file": "get_file" "get_files" "get_files_since" "find_file" "get_file_handle" "new_file" "modify_file" "save_file"
        "copy_file" "rename_file" "remove_file" "get_file_as_rendered"),
    of_kind!("menu": "get_menu" "get_menus" "get_menus_since" "find_menu" "get_menu_handle" "new_menu" "modify_menu" "save_menu"
        "copy_menu" "rename_menu" "remove_menu" "get_menu_as_rendered"),
];

/// How many methods there are.
const COUNT: usize = OWN.len().saturating_add(OF_KINDS.as_flattened().len());

/// Every method, with what it needs.
pub static METHODS: [Method; COUNT] = gathered();

const fn gathered() -> [Method; COUNT] {
    let mut all = [method!("" Admin look read::ping); COUNT];
    let (mut own, mut kinds) = (OWN, OF_KINDS.as_flattened());
    let mut rest: &mut [Method] = &mut all;
    while let Some((slot, after)) = rest.split_first_mut() {
        if let Some((first, tail)) = own.split_first() {
            *slot = *first;
            own = tail;
        } else if let Some((first, tail)) = kinds.split_first() {
            *slot = *first;
            kinds = tail;
        }
        rest = after;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_stands_once_in_the_table() {
        let mut names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        assert!(!names.contains(&""));
    }

    #[test]
    fn nobody_writes_without_a_login() {
        for method in &METHODS {
            let open = [
                "login",
                "logout",
                "register_new_system",
                "get_events",
                "get_event_log",
                "get_task_status",
            ];
            let writes = !method.looks() && !open.contains(&method.name);
            assert!(!writes || method.needs >= Needs::Login, "{method:?}");
        }
    }
}
