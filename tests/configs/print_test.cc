// The config as text: effective, explicit.
#include <gtest/gtest.h>

#include "configs/load.h"
#include "tests/configs/config_text.h"

namespace witan::configs {
namespace {

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(Print, EffectiveSaysWhereEachValueComesFrom) {
  const std::string text =
      print_effective(load(kGoodConfig, "a.textproto", {"train.output=runs/x"}));
  EXPECT_TRUE(has_line(text, "name: \"tiny\"  # a.textproto:1")) << text;
  EXPECT_TRUE(has_line(text, "    heads: 4  # a.textproto:6"));
  EXPECT_TRUE(has_line(text, "    # kv_heads: not set"));
  EXPECT_TRUE(has_line(text, "  tied_head: false  # default"));
  EXPECT_TRUE(has_line(text, "  output: \"runs/x\"  # --set"));
  EXPECT_TRUE(has_line(text, "  lr: 0.001  # default"));  // of a message that is not set
  EXPECT_TRUE(has_line(text, "  # ffn: not set"));        // not a message with missing fields
}

TEST(Print, EffectiveParsesAgainToTheSameEffectiveConfig) {
  const LoadedConfig first =
      load(kGoodConfig, "a.textproto",
           {"model.moe.pattern.list=[0, 1]", "data.train[0]={ name: \"\\\"q\\n\" path: 'p' }"});
  ASSERT_TRUE(first.errors.empty());
  EXPECT_TRUE(has_line(print_effective(first), "      # every: not set"));  // list excludes it
  const LoadedConfig second = load(print_effective(first), "b.textproto", {});
  ASSERT_TRUE(second.errors.empty()) << second.errors.front().to_string();
  const auto without_comments = [](std::string text) {
    for (std::size_t at = text.find("  # "); at != std::string::npos; at = text.find("  # ", at)) {
      if (at > 0 && (text[at - 1] == '\n' || text[at - 1] == ' ')) {
        ++at;  // a line that is a comment
      } else {
        text.erase(at, text.find('\n', at) - at);
      }
    }
    return text;
  };
  EXPECT_EQ(without_comments(print_effective(first)), without_comments(print_effective(second)));
  EXPECT_EQ(second.run.model().moe().pattern().list_size(), 2);
  EXPECT_EQ(second.run.data().train(0).name(), "\"q\n");
}

TEST(Print, ExplicitRoundTrip) {
  const LoadedConfig first = load(kGoodConfig, "a.textproto", {"optimizer.lr=0.1"});
  const LoadedConfig second = load(print_explicit(first.run), "b.textproto", {});
  ASSERT_TRUE(second.errors.empty());
  EXPECT_EQ(first.run.SerializeAsString(), second.run.SerializeAsString());
  EXPECT_FALSE(second.run.has_train());
}

}  // namespace
}  // namespace witan::configs
