from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]

class Detail(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DETAIL_UNSPECIFIED: _ClassVar[Detail]
    DETAIL_AUTO: _ClassVar[Detail]
    DETAIL_LOW: _ClassVar[Detail]
    DETAIL_HIGH: _ClassVar[Detail]

class Route(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTE_UNSPECIFIED: _ClassVar[Route]
    ROUTE_AUTO: _ClassVar[Route]
    ROUTE_DIRECT: _ClassVar[Route]
    ROUTE_ZOOM: _ClassVar[Route]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
ROLE_UNSPECIFIED: Role
ROLE_SYSTEM: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
DETAIL_UNSPECIFIED: Detail
DETAIL_AUTO: Detail
DETAIL_LOW: Detail
DETAIL_HIGH: Detail
ROUTE_UNSPECIFIED: Route
ROUTE_AUTO: Route
ROUTE_DIRECT: Route
ROUTE_ZOOM: Route
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason

class AnswerRequest(_message.Message):
    __slots__ = ("model", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "qzoom")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    QZOOM_FIELD_NUMBER: _ClassVar[int]
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    qzoom: Options
    def __init__(self, model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., qzoom: _Optional[_Union[Options, _Mapping]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: Role
    content: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., content: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("text", "image_url")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_URL_FIELD_NUMBER: _ClassVar[int]
    text: str
    image_url: ImageUrl
    def __init__(self, text: _Optional[str] = ..., image_url: _Optional[_Union[ImageUrl, _Mapping]] = ...) -> None: ...

class ImageUrl(_message.Message):
    __slots__ = ("data", "url", "upload", "detail")
    DATA_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    url: str
    upload: int
    detail: Detail
    def __init__(self, data: _Optional[bytes] = ..., url: _Optional[str] = ..., upload: _Optional[int] = ..., detail: _Optional[_Union[Detail, str]] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("route", "tau_gate", "tau_roi", "max_visual_tokens", "max_roi_tokens", "deadline_ms", "explain")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    TAU_GATE_FIELD_NUMBER: _ClassVar[int]
    TAU_ROI_FIELD_NUMBER: _ClassVar[int]
    MAX_VISUAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROI_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    route: Route
    tau_gate: float
    tau_roi: float
    max_visual_tokens: int
    max_roi_tokens: int
    deadline_ms: int
    explain: bool
    def __init__(self, route: _Optional[_Union[Route, str]] = ..., tau_gate: _Optional[float] = ..., tau_roi: _Optional[float] = ..., max_visual_tokens: _Optional[int] = ..., max_roi_tokens: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., explain: _Optional[bool] = ...) -> None: ...

class AnswerResponse(_message.Message):
    __slots__ = ("request_id", "model", "text", "started", "finished")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    text: str
    started: Started
    finished: Finished
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., text: _Optional[str] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class AnswerEvent(_message.Message):
    __slots__ = ("started", "delta", "finished", "error")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    started: Started
    delta: Delta
    finished: Finished
    error: Error
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("request_id", "route", "p_refine", "tau_gate", "boxes", "visual_tokens", "trace_id", "heatmap", "budgets", "brownout")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    P_REFINE_FIELD_NUMBER: _ClassVar[int]
    TAU_GATE_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    VISUAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    BROWNOUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    route: Route
    p_refine: float
    tau_gate: float
    boxes: _containers.RepeatedCompositeFieldContainer[Region]
    visual_tokens: VisualTokens
    trace_id: str
    heatmap: HeatMap
    budgets: Budgets
    brownout: Brownout
    def __init__(self, request_id: _Optional[str] = ..., route: _Optional[_Union[Route, str]] = ..., p_refine: _Optional[float] = ..., tau_gate: _Optional[float] = ..., boxes: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., visual_tokens: _Optional[_Union[VisualTokens, _Mapping]] = ..., trace_id: _Optional[str] = ..., heatmap: _Optional[_Union[HeatMap, _Mapping]] = ..., budgets: _Optional[_Union[Budgets, _Mapping]] = ..., brownout: _Optional[_Union[Brownout, _Mapping]] = ...) -> None: ...

class Budgets(_message.Message):
    __slots__ = ("max_visual_tokens", "max_roi_tokens")
    MAX_VISUAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROI_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_visual_tokens: int
    max_roi_tokens: int
    def __init__(self, max_visual_tokens: _Optional[int] = ..., max_roi_tokens: _Optional[int] = ...) -> None: ...

class Brownout(_message.Message):
    __slots__ = ("level", "changed")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    level: int
    changed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, level: _Optional[int] = ..., changed: _Optional[_Iterable[str]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("image", "x0", "y0", "x1", "y1", "score")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    image: int
    x0: int
    y0: int
    x1: int
    y1: int
    score: float
    def __init__(self, image: _Optional[int] = ..., x0: _Optional[int] = ..., y0: _Optional[int] = ..., x1: _Optional[int] = ..., y1: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class VisualTokens(_message.Message):
    __slots__ = ("coarse", "roi", "spared")
    COARSE_FIELD_NUMBER: _ClassVar[int]
    ROI_FIELD_NUMBER: _ClassVar[int]
    SPARED_FIELD_NUMBER: _ClassVar[int]
    coarse: int
    roi: int
    spared: int
    def __init__(self, coarse: _Optional[int] = ..., roi: _Optional[int] = ..., spared: _Optional[int] = ...) -> None: ...

class HeatMap(_message.Message):
    __slots__ = ("image", "height", "width", "values")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    image: int
    height: int
    width: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, image: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("text", "num_tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    num_tokens: int
    def __init__(self, text: _Optional[str] = ..., num_tokens: _Optional[int] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("finish_reason", "prompt_tokens", "completion_tokens", "stage_ms", "degraded")
    class StageMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: StageTime
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[StageTime, _Mapping]] = ...) -> None: ...
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STAGE_MS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    stage_ms: _containers.MessageMap[str, StageTime]
    degraded: str
    def __init__(self, finish_reason: _Optional[_Union[FinishReason, str]] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., stage_ms: _Optional[_Mapping[str, StageTime]] = ..., degraded: _Optional[str] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("queue", "compute")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    queue: float
    compute: float
    def __init__(self, queue: _Optional[float] = ..., compute: _Optional[float] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "param", "request_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PARAM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    param: str
    request_id: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., param: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("chunk", "question")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    chunk: ImageChunk
    question: AnswerRequest
    def __init__(self, chunk: _Optional[_Union[ImageChunk, _Mapping]] = ..., question: _Optional[_Union[AnswerRequest, _Mapping]] = ...) -> None: ...

class ImageChunk(_message.Message):
    __slots__ = ("image", "data")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    image: int
    data: bytes
    def __init__(self, image: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
