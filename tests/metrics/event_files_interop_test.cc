// An event file of Keras is read by the messages that ours are written with.
#include <map>

#include "tests/metrics/event_files.h"

namespace witan {
namespace {

TEST(EventFilesInteropTest, FieldsMeanTheSame) {
  const std::string path = std::string(WITAN_SOURCE_DIR) +
                           "/../shared/data/interop/tensorboard/events.out.tfevents.1585769947.cvp";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const auto events = test::events_of(path);
  ASSERT_GT(events.size(), 2U);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  std::map<std::string, int> tags;
  for (const auto& event : events) {
    for (const auto& value : event.summary().value()) ++tags[value.tag()];
  }
  EXPECT_EQ(tags["epoch_loss"], 17);
  EXPECT_EQ(tags["epoch_val_acc"], 17);
}

}  // namespace
}  // namespace witan
