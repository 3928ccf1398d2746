// Package template reads Azure Resource Manager templates and works out what
// they say: which resources, in which order, with which bodies. It is pure; what
// a template reads of resources that exist (reference) is asked of a function.
//
// It owns the lenient reader of template text, the expression language and the
// order that dependsOn and references make. It knows no resource type and no
// right: bodies are checked by whoever writes them, as the caller. Template
// functions and elements that it does not know are errors that name them.
//
// Source: the Azure Resource Manager template reference (syntax, functions).
package template
