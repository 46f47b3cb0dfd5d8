"""Python functions as tools: what a model is told of them, and how its calls reach them."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import attrs

from ._importing import importing
from ._schemas.stand_ins import restore
from ._schemas.types import Misfit, convert, schema_of
from ._specs import ToolSpec
from .errors import ConfigurationError, InvalidRequestError

__all__ = ["ArgumentsError", "as_tools", "names_of"]

# What both vendors take.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DEFS = "#/$defs/"
_NEEDED = inspect.Parameter.empty


class ArgumentsError(ValueError):
    """A model called a tool with arguments that it does not take; the text is for the model."""


@attrs.frozen(kw_only=True)
class _Parameter:
    """One parameter that the model fills.

    Attributes:
        name: Its name.
        kind: Its type.
        needed: Whether it has no default.
        description: What it means; ``""`` where nothing says so.
    """

    name: str
    kind: Any
    needed: bool
    description: str = ""


def as_tools(tools: Any) -> tuple[ToolSpec | Mapping[str, Any], ...]:
    """Return what a call was given as ``tools=``, its functions as ``ToolSpec``.

    The vendor's own JSON stays as it is. None and an empty list are no tools.

    Raises:
        InvalidRequestError: One of them can be none, or two have one name; the message names the
            function and the parameter.
        ConfigurationError: The extra ``structured``, which functions need, is not installed.
    """
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or isinstance(tools, (str, bytes, bytearray)):
        single = callable(tools) or isinstance(tools, (ToolSpec, Mapping))
        hint = "; a single one goes into a list" if single else ""
        raise InvalidRequestError(
            "tools must be a list of functions or of the vendor's JSON objects, "
            f"not {type(tools).__name__}{hint}."
        )
    specs = tuple(_as_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))
    _refuse_twins(specs)
    return specs


def names_of(tool: Any) -> Iterator[str]:
    """Yield the names that a model may call one of the tools by, as far as they can be told."""
    if isinstance(tool, ToolSpec):
        yield tool.name
    elif isinstance(tool, Mapping):
        for holder in (tool, tool.get("function"), tool.get("custom")):
            if isinstance(holder, Mapping) and isinstance(holder.get("name"), str):
                yield holder["name"]
        inner = tool.get("tools")
        for one in inner if isinstance(inner, (list, tuple)) else ():
            yield from names_of(one)


def _as_tool(tool: Any, where: str) -> ToolSpec | Mapping[str, Any]:
    if isinstance(tool, ToolSpec):
        return _checked(tool, where)
    if isinstance(tool, Mapping):
        if not tool or not all(isinstance(name, str) for name in tool):
            raise InvalidRequestError(f"{where} must be the vendor's JSON for a tool.")
        return tool
    if not callable(tool):
        raise InvalidRequestError(
            f"{where} must be a function or the vendor's JSON as a dict, not {type(tool).__name__}."
        )
    return _of_function(tool, where)


def _checked(spec: ToolSpec, where: str) -> ToolSpec:
    _check_name(spec.name, where)
    if not isinstance(spec.description, str):
        raise InvalidRequestError(f"{where}.description must be text.")
    if not isinstance(spec.parameters, Mapping):
        raise InvalidRequestError(f"{where}.parameters must be a JSON schema of an object.")
    if spec.call is not None and not callable(spec.call):
        raise InvalidRequestError(f"{where}.call must be a function or None.")
    return spec


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{where} has the name {name!r}; vendors take 1 to 64 of a-z, A-Z, 0-9, _ and -."
        )


def _refuse_twins(specs: Sequence[ToolSpec | Mapping[str, Any]]) -> None:
    """Refuse a name of two tools; two that are the vendor's JSON are the vendor's to judge."""
    seen: dict[str, int] = {}
    for index, spec in enumerate(specs):
        for name in names_of(spec):
            first = seen.setdefault(name, index)
            if first != index and (
                isinstance(spec, ToolSpec) or isinstance(specs[first], ToolSpec)
            ):
                raise InvalidRequestError(
                    f"tools[{first}] and tools[{index}] have one name, {name!r}. Another "
                    "__name__ for one of them tells them apart."
                )


def _of_function(function: Callable[..., Any], where: str) -> ToolSpec:
    name = _name_of(function, where)
    _check_name(name, where)
    what = f"{where}, the function {name!r},"
    signature = _signature(function, what)
    _refuse_late(function, what)
    summary, described = _documented(function)
    parameters = tuple(
        _as_parameter(parameter, function, what, described)
        for parameter in _asked(function, signature)
    )
    schema = _schema(parameters, what)
    told, strict = _strict(schema, what)
    return ToolSpec(
        name=name,
        description=summary,
        parameters=told,
        strict=strict,
        call=functools.partial(_call, function, parameters, schema),
    )


def _name_of(function: Any, where: str) -> Any:
    if inspect.isclass(function):
        raise InvalidRequestError(
            f"{where} is the class {function.__name__!r}; tools are functions. "
            "For a reply of that form use output=."
        )
    while isinstance(function, functools.partial) and "__name__" not in vars(function):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    if name == "<lambda>":
        raise InvalidRequestError(
            f"{where} is a lambda, which tells a model nothing; define a function."
        )
    return name


def _signature(function: Callable[..., Any], what: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        raise InvalidRequestError(f"{what} has no signature that can be read.") from None


def _refuse_late(function: Any, what: str) -> None:
    """Refuse a function whose call does not give its result."""
    while isinstance(function, functools.partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise InvalidRequestError(f"{what} is async; tools are called in the caller's thread.")
    if inspect.isgeneratorfunction(called):
        raise InvalidRequestError(f"{what} is a generator; a tool returns its result.")


def _asked(
    function: Callable[..., Any], signature: inspect.Signature
) -> Iterator[inspect.Parameter]:
    """Yield the parameters that the model fills: not those that a partial has filled by name."""
    filled = function.keywords if isinstance(function, functools.partial) else {}
    yield from (one for one in signature.parameters.values() if one.name not in filled)


def _as_parameter(
    parameter: inspect.Parameter,
    function: Callable[..., Any],
    what: str,
    described: Mapping[str, str],
) -> _Parameter:
    name, this = parameter.name, f"{what} has a parameter {parameter.name!r}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise InvalidRequestError(f"{what} takes {stars}{name}; a model can only fill named ones.")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InvalidRequestError(f"{this} that is positional-only; arguments come by name.")
    if parameter.annotation is _NEEDED:
        bind = " (Give a bound method.)" if name in ("self", "cls") else ""
        raise InvalidRequestError(f"{this} without an annotation, so its type is unknown.{bind}")
    kind = _resolved(parameter.annotation, getattr(_plain(function), "__globals__", {}), this)
    return _Parameter(
        name=name,
        kind=kind,
        needed=parameter.default is _NEEDED,
        description=_annotated(kind) or described.get(name, ""),
    )


def _plain(function: Any) -> Any:
    """Return the function at the bottom, in whose module annotations have their meaning."""
    while not hasattr(function, "__globals__") or hasattr(function, "__wrapped__"):
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function):
            break
        else:
            function = type(function).__call__
    return function


def _resolved(annotation: Any, names: dict[str, Any], this: str) -> Any:
    def bearer() -> None:
        """Bear one annotation: where another of the function's cannot be resolved, no matter."""

    bearer.__annotations__ = {"it": annotation}
    try:
        return typing.get_type_hints(bearer, names, include_extras=True)["it"]
    except Exception as error:
        # Whatever comes of evaluating a text.
        raise InvalidRequestError(
            f"{this} whose annotation cannot be resolved: {type(error).__name__}: {error}."
        ) from None


def _annotated(kind: Any) -> str:
    """Return the description in an ``Annotated``: text, or what carries one (PEP 727, pydantic)."""
    for note in getattr(kind, "__metadata__", ()):
        carried = (getattr(note, name, None) for name in ("documentation", "description"))
        for words in (note, *carried):
            if isinstance(words, str):
                return inspect.cleandoc(words)
    return ""


def _documented(function: Any) -> tuple[str, Mapping[str, str]]:
    """Return what the docstring says of the function and of its parameters."""
    while isinstance(function, functools.partial) and not vars(function).get("__doc__"):
        function = function.func
    text = inspect.getdoc(function)
    if not inspect.isroutine(function):
        text = getattr(type(function).__call__, "__doc__", None) or text
    if not text:
        return "", {}
    with importing():
        try:
            import docstring_parser
        except ImportError:
            _lacks("docstring_parser")
    try:
        read = docstring_parser.parse(text)
    except Exception:
        # Whatever the parser makes of it, it is words for the model.
        return text, {}
    described = {one.arg_name: (one.description or "").strip() for one in read.params}
    return (read.description or "").strip(), described


def _lacks(library: str) -> NoReturn:
    raise ConfigurationError(
        f"Functions as tools need {library}: pip install 'termai-http[structured]'"
    )


def _schema(parameters: Sequence[_Parameter], what: str) -> dict[str, Any]:
    """Return the JSON schema of the parameters, of which those with a default are left open."""
    properties: dict[str, Any] = {}
    defs: dict[str, Any] = {}
    for one in parameters:
        schema = _shared(schema_of(one.kind, f"{what} has a parameter {one.name!r}"), defs)
        words = {"description": one.description} if one.description else {}
        properties[one.name] = {**schema, **words}
    return {
        "type": "object",
        "properties": properties,
        "required": [one.name for one in parameters if one.needed],
        **({"$defs": defs} if defs else {}),
    }


def _shared(schema: Mapping[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Move a schema's definitions to those of the others, and return what is left of it."""
    own = schema.get("$defs", {})
    names = {name: name for name in own}
    if any(defs.get(name, own[name]) != own[name] for name in own):
        for name in own:
            while names[name] in defs or (names[name] != name and names[name] in own):
                names[name] += "_"
    defs.update({names[name]: _renamed(definition, names) for name, definition in own.items()})
    rest = {key: value for key, value in schema.items() if key != "$defs"}
    return dict(_renamed(rest, names))


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references go to definitions by their new names."""
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: f"{_DEFS}{names.get(value.removeprefix(_DEFS), value.removeprefix(_DEFS))}"
        if key == "$ref" and isinstance(value, str)
        else _renamed(value, names)
        for key, value in node.items()
    }


def _strict(schema: dict[str, Any], what: str) -> tuple[dict[str, Any], bool]:
    """Return a schema as the vendors' strict modes take it, or itself where they take none."""
    with importing():
        from ._schemas.strict import strict

    try:
        return strict(schema, what), True
    except InvalidRequestError:
        return schema, False


def _call(
    function: Callable[..., Any],
    parameters: Sequence[_Parameter],
    schema: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> Any:
    """Call a function with what a model gave.

    Raises:
        ArgumentsError: It does not fit the function's parameters.
    """
    kinds = {one.name: one.kind for one in parameters}
    # Where a strict mode asks for every argument, null stands for the default.
    given = restore(dict(arguments), schema)
    unknown = [name for name in given if name not in kinds]
    missing = [one.name for one in parameters if one.needed and one.name not in given]
    if unknown or missing:
        wrong = [
            *(f"{name} is unknown" for name in unknown),
            *(f"{name} is missing" for name in missing),
        ]
        raise ArgumentsError(
            f"{'; '.join(wrong)}. The arguments are: {', '.join(kinds) or 'none'}."
        )
    fitting = {}
    for name, value in given.items():
        try:
            fitting[name] = convert(value, kinds[name])
        except Misfit as misfit:
            raise ArgumentsError(
                f"{name}{misfit.path.removeprefix('$')}: {misfit.reason}"
            ) from None
    return function(**fitting)
