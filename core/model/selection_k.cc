#include "core/model/selection_k.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace witan {
namespace {

using google::protobuf::FieldDescriptor;

// Null without a selection.
const FieldDescriptor* selection_of(const configs::RouterConfig& router) {
  const auto* oneof = router.GetDescriptor()->FindOneofByName("selection");
  return router.GetReflection()->GetOneofFieldDescriptor(router, oneof);
}

}  // namespace

std::string selection_name(const configs::RouterConfig& router) {
  const FieldDescriptor* field = selection_of(router);
  return field == nullptr ? "" : field->name();
}

std::optional<std::int64_t> selection_k(const configs::RouterConfig& router) {
  const FieldDescriptor* field = selection_of(router);
  if (field == nullptr) return std::nullopt;
  const google::protobuf::Message& selection = router.GetReflection()->GetMessage(router, field);
  const FieldDescriptor* k = selection.GetDescriptor()->FindFieldByName("k");
  if (k == nullptr || k->cpp_type() != FieldDescriptor::CPPTYPE_INT64) return std::nullopt;
  return selection.GetReflection()->GetInt64(selection, k);
}

}  // namespace witan
