//! Rust files as the checks see them: parsed once, with test code told apart from shipped code.
//!
//! What a macro expands to is absent: only what is written can be read.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::Finding;
use super::tree::Tree;

/// One Rust file.
pub struct Source {
    pub path: String,
    pub text: String,
    /// The parsed file, or line and reason.
    pub parsed: Result<syn::File, (usize, String)>,
}

/// A named item or a function, with the lines it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The name as written.
    pub name: String,
    /// Where it stands, such as `Tree::read`.
    pub path: String,
    pub line: usize,
    pub lines: usize,
    pub kind: Kind,
}

/// What an item is, as far as a check cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Function,
    /// An item or module with a name of its own.
    Named,
    /// A field, a variant, or a word given to a macro.
    Part,
}

impl Source {
    /// Parses one file.
    pub fn parse(path: &str, text: &str) -> Self {
        let parsed = syn::parse_file(text).map_err(|error| (error.span().start().line, error.to_string()));
        Self { path: path.to_owned(), text: text.to_owned(), parsed }
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        is_test_path(&self.path)
    }

    /// Items and functions outside test code; those of a test file too.
    pub fn items(&self) -> Vec<Item> {
        let mut collector = Collector::default();
        if let Ok(file) = &self.parsed {
            collector.visit_file(file);
        }
        collector.items
    }
}

/// Whether a path holds code only for tests or benchmarks.
pub fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

/// Files that cannot be parsed are findings, or the other checks would pass over them in silence.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let broken = tree.rust().iter().filter_map(|source| Some((source, source.parsed.as_ref().err()?)));
    broken
        .map(|(source, (line, reason))| {
            Finding::new(&source.path, *line, format!("is not readable as Rust: {reason}"), "correct the syntax")
        })
        .collect()
}

/// Whether attributes make an item test code.
pub fn is_test_code(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let last = path.segments.last().map(|segment| segment.ident.to_string());
        match (&attribute.meta, last.as_deref()) {
            (_, Some("test")) => true,
            (syn::Meta::List(list), Some("cfg")) => {
                let words = words(list.tokens.clone());
                words.iter().any(|(word, _)| word == "test") && !words.iter().any(|(word, _)| word == "not")
            }
            _ => false,
        }
    })
}

/// The attributes of an item.
pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Every identifier of a token stream with its line, groups included.
pub fn words(tokens: TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => found.push((ident.to_string(), ident.span().start().line)),
            TokenTree::Group(group) => found.extend(words(group.stream())),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

#[derive(Default)]
struct Collector {
    items: Vec<Item>,
    scope: Vec<String>,
}

impl Collector {
    fn add(&mut self, ident: &syn::Ident, kind: Kind, first: Span, whole: Span) {
        let name = ident.to_string();
        let path = self.scope.iter().map(String::as_str).chain([name.as_str()]).collect::<Vec<_>>().join("::");
        let line = first.start().line;
        let lines = (whole.end().line + 1).saturating_sub(line);
        self.items.push(Item { name, path, line, lines, kind });
    }

    fn named(&mut self, ident: &syn::Ident) {
        self.add(ident, Kind::Named, ident.span(), ident.span());
    }

    /// Words given to a macro: names it may define.
    fn parts(&mut self, tokens: TokenStream) {
        let parts = words(tokens).into_iter();
        self.items.extend(parts.map(|(name, line)| Item {
            path: name.clone(),
            name,
            line,
            lines: 1,
            kind: Kind::Part,
        }));
    }

    fn inside(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        visit(self);
        self.scope.pop();
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test_code(attributes(item)) {
            return;
        }
        match item {
            syn::Item::Const(item) => self.named(&item.ident),
            syn::Item::Enum(item) => self.named(&item.ident),
            syn::Item::Macro(item) => match &item.ident {
                Some(ident) => self.named(ident),
                None => self.parts(item.mac.tokens.clone()),
            },
            syn::Item::Mod(item) => self.named(&item.ident),
            syn::Item::Static(item) => self.named(&item.ident),
            syn::Item::Struct(item) => self.named(&item.ident),
            syn::Item::Trait(item) => self.named(&item.ident),
            syn::Item::Type(item) => self.named(&item.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inside(item.ident.to_string(), |inner| visit::visit_item_mod(inner, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            _ => None,
        };
        self.inside(name.unwrap_or_else(|| "impl".to_owned()), |inner| visit::visit_item_impl(inner, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.inside(item.ident.to_string(), |inner| visit::visit_item_trait(inner, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, Kind::Function, item.sig.span(), item.block.span());
        self.inside(item.sig.ident.to_string(), |inner| visit::visit_item_fn(inner, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig.ident, Kind::Function, item.sig.span(), item.block.span());
        self.inside(item.sig.ident.to_string(), |inner| visit::visit_impl_item_fn(inner, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        let end = item.default.as_ref().map_or(item.sig.span(), |block| block.span());
        self.add(&item.sig.ident, Kind::Function, item.sig.span(), end);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.add(&variant.ident, Kind::Part, variant.ident.span(), variant.ident.span());
        visit::visit_variant(self, variant);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.add(ident, Kind::Part, ident.span(), ident.span());
        }
        visit::visit_field(self, field);
    }
}
