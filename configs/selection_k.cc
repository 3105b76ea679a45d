#include "configs/selection_k.h"

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

// Its field `k`; null if it has none.
const FieldDescriptor* k_of(const FieldDescriptor* selection) {
  if (selection == nullptr) return nullptr;
  const FieldDescriptor* k = selection->message_type()->FindFieldByName("k");
  return k != nullptr && k->cpp_type() == FieldDescriptor::CPPTYPE_INT64 ? k : nullptr;
}

}  // namespace

std::string selection_name(const configs::RouterConfig& router) {
  const FieldDescriptor* field = selection_of(router);
  return field == nullptr ? "" : field->name();
}

std::optional<std::int64_t> selection_k(const configs::RouterConfig& router) {
  const FieldDescriptor* field = selection_of(router);
  const FieldDescriptor* k = k_of(field);
  if (k == nullptr) return std::nullopt;
  const google::protobuf::Message& selection = router.GetReflection()->GetMessage(router, field);
  return selection.GetReflection()->GetInt64(selection, k);
}

void set_selection_k(configs::RouterConfig& router, std::int64_t k) {
  const FieldDescriptor* field = selection_of(router);
  const FieldDescriptor* its_k = k_of(field);
  if (its_k == nullptr) return;
  google::protobuf::Message* selection = router.GetReflection()->MutableMessage(&router, field);
  selection->GetReflection()->SetInt64(selection, its_k, k);
}

}  // namespace witan
