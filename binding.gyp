{
  "variables": { "p2pdma_asan%": 0 },
  "targets": [
    {
      "target_name": "p2pdma",
      "conditions": [
        ["OS=='linux'", {
          "sources": [
            "src-native/addon.cc",
            "src-native/engine.cc",
            "src-native/file.cc",
            "src-native/loop-waker.cc",
            "src-native/mapping.cc",
            "src-native/pool.cc",
            "src-native/ring.cc",
            "src-native/thread-waker.cc",
            "src-native/thread.cc"
          ],
          "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
          "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "_FILE_OFFSET_BITS=64"],
          "cflags": ["-Wall", "-Wextra", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"],
          "cflags_cc": ["-std=c++17", "-fno-exceptions", "-fno-rtti"],
          "cflags_cc!": ["-std=gnu++14", "-std=gnu++17", "-std=gnu++20"],
          "ldflags": ["-Wl,--as-needed", "-static-libgcc", "-static-libstdc++", "-Wl,--gc-sections", "-Wl,--exclude-libs,ALL"],
          "conditions": [
            ["p2pdma_asan==1", {
              "cflags": ["-fsanitize=address", "-fno-omit-frame-pointer", "-g", "-O1"],
              "cflags!": ["-fomit-frame-pointer"],
              "ldflags": ["-fsanitize=address"],
              "ldflags!": ["-static-libgcc", "-static-libstdc++"]
            }]
          ]
        }, { "type": "none" }]
      ]
    }
  ]
}
