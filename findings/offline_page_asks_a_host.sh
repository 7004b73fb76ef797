#!/usr/bin/env bash
# mkdocs-material 9.8.2: the built-in plugin `offline`, which is for pages that work without a network, puts a script of
# another host into every page.
#
# Expected: a site built with the plugin loads nothing from elsewhere.
# Seen: each page has <script src="https://unpkg.com/iframe-worker/shim">; without the plugin none has.
# Who is hurt: documentation of models for closed networks: every page waits for, and is known to, a host outside.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mkdocs-material==9.8.2
mkdir "$work/docs"
echo '# A model' >"$work/docs/index.md"
build() {
    printf 'site_name: x\nuse_directory_urls: false\ntheme: {name: material, font: false}\nplugins: %s\n' "$2" >"$work/mkdocs.yml"
    "$work/venv/bin/mkdocs" build --quiet --config-file "$work/mkdocs.yml" --site-dir "$work/$1" 2>/dev/null
    grep -o '<script src="https[^"]*"' "$work/$1/index.html" || true
}
with=$(build with '[search, offline]')
without=$(build without '[search]')
echo "with the plugin: $with; without: ${without:-nothing}"
[ "$with" = '<script src="https://unpkg.com/iframe-worker/shim"' ] && [ -z "$without" ]
